"""What a user should know about a legal request: nothing here keeps it from running."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from launcher import quantizing
from launcher.compiling import WAYS
from launcher.estimates import memory
from launcher.estimates.attentions import countable
from launcher.estimates.savings import cheapest, shortage, smaller
from launcher.estimates.ways import as_typed, device_seconds, host_seconds
from launcher.families.replaced import unread
from launcher.records.film import pixel_format
from launcher.request.geometry import Size, whole_size
from launcher.request.request import Request
from launcher.request.speeds import rank_speeds
from launcher.wording import plural, shorten

WAITS = 0.01  # s of a step that a GPU waits for its host: less is not told
BUSY_MIB = 1024  # of a GPU: what a display takes is less


def notes(request: Request) -> list[str]:
    """Return notes, each one line with the number and what to type."""
    found = []
    if (short := shortage(request)) is not None:
        found.append(f"{short}: it may run out of memory; {_way_out(request)}")
    for gpu in request.machine.gpus:
        if gpu.index in request.devices and gpu.used_mib > BUSY_MIB:
            share = f"{gpu.used_mib / 1024:.1f} of {gpu.memory_mib / 1024:.1f} GiB"
            found.append(
                f"GPU {gpu.index} is in use: other programs hold {share}; type runtime.devices=[...] to choose others"
            )
    if request.device == "cpu" and request.dtype == "float16":
        found.append(
            "float16 on a CPU is about 50 times slower than float32 (measured: 2 and 103 GFLOP/s a core); type "
            "runtime.dtype=bfloat16"
        )
    if request.machine.here and (kernel := os.environ.get("DIFFUSERS_ATTN_BACKEND")):
        found.append(f"DIFFUSERS_ATTN_BACKEND={shorten(kernel)} is not read here; attention= names the kernel")
    if request.config.vae.tiling:
        found.append("vae.tiling=true makes another picture than without it, where tiles meet")
    if request.config.compile in WAYS[1:]:
        what = "compiles before the first step, and a step's time above is of one that is not compiled"
        found.append(f"compile={request.config.compile} {what}; what is compiled is kept for runs to come")
    if request.config.quantization != quantizing.NONE:
        what = "makes another picture than without it, and a step's time above is of one with whole weights"
        found.append(f"quantization={request.config.quantization} {what}")
    if request.cache.on:
        what = "makes another picture than without it, and a step's time above is of one that is computed"
        found.append(f"cache={request.cache.name} {what}; run.json tells which steps were not")
    found += _host(request)
    if request.config.cp.implementation == "diffusers":
        found.append("bytes and times of a plan are those of this program's own modes, not of diffusers'")
    model = request.config.model
    for number, count in enumerate(request.inputs.tokens):
        if count is None or count <= model.text_tokens:
            continue
        which = f"prompt {number + 1}" if len(request.prompts) > 1 else "the prompt"
        advice = "shorten it"
        if model.max_text_tokens is not None and model.max_text_tokens > model.text_tokens:
            advice += f", or type model.text_tokens={min(count, model.max_text_tokens)}"
        found.append(f"{which} has {count} tokens and {model.name} reads the first {model.text_tokens}; {advice}")
    found += _film(request) + _pictures(request)
    found += request.inputs.checkpoint.notes
    found += [note] if (note := unread(model)) else []
    if kind := request.inputs.checkpoint.planless:
        found.append(f"{kind} is of no family here: its facts are read from its files, and times and memory are rough")
    if (path := request.config.prompt_file) is not None and request.prompts and not path.endswith(".json"):
        lines = sum(bool(line.strip()) for line in request.prompts[0].splitlines())
        if lines > 1 or path.endswith(".jsonl"):
            name = shorten(Path(path).name)
            several = 'a .json file holds several: ["one", "two"]'
            found.append(f"prompt_file={name} has {plural(lines, 'line')} and is one prompt; {several}")
    if not request.machine.here:
        found += [f"not here: {problem.value}: {problem.rule}" for problem in request.inputs.checkpoint.problems]
    return found


def ran_out(request: Request) -> str:
    """What was planned and free, and what to type, for a request of which a rank ran out of memory."""
    need, free = memory.estimate(request), memory.free_gib(request)
    planned = "" if need is None else f"about {need.total / memory.GIB:.1f} GiB a rank were planned"
    if planned and free is not None:
        planned += f", and {free:.1f} GiB were free"
    way_out = _way_out(request)
    if shortage(request) is None:  # by an estimate that is too low here, or others took memory meanwhile
        less = smaller(request, lambda config: as_typed(config, request.inputs, request.whole, request.groups))
        way_out = "type a smaller size" if less is None else f"type {' '.join(less.words)}, which takes less"
    return "; ".join(filter(None, (planned, way_out)))


def _way_out(request: Request) -> str:
    """What to type where memory does not suffice."""
    saving = cheapest(request, lambda config: as_typed(config, request.inputs, request.whole, request.groups))
    if saving is not None:
        return f"type {' '.join(saving.words)}, with which it fits"
    least = memory.estimate(replace(request, rendered=Size(request.multiple, request.multiple)))
    free = memory.free_gib(request)
    if least is None or free is None or least.total <= free * memory.GIB:
        return "type a smaller size"
    return "no option here makes it fit, at no size"


def _host(request: Request) -> list[str]:
    """Where GPUs wait for what launches their work."""
    if request.device != "cuda" or not countable(request):
        return []
    speeds = rank_speeds(request)
    host, device = host_seconds(request, speeds[0]), device_seconds(request, speeds)
    if host - device < WAITS:
        return []
    return [f"a GPU waits for its host, which takes about {1e3 * host:.0f} ms to launch {1e3 * device:.0f} ms of work"]


def _pictures(request: Request) -> list[str]:
    """What is lost of pictures that are started from."""
    found = []
    for given in request.inputs.pictures:
        fit = request.fit(given)
        if fit is None or given.setting == "mask_image":
            continue
        kept = fit.cropped.height * fit.cropped.width / (fit.scaled.height * fit.scaled.width)
        if kept < 0.95:
            height, width = whole_size(given.size, request.requested)
            advice = f"type height={height} width={width} to draw all of it"
            found.append(f"{kept:.0%} of {shorten(given.path.name)} is kept, its middle; {advice}")
    return found


def _film(request: Request) -> list[str]:
    """What becomes of a film's colours and sound in its file."""
    if request.codec is None:
        lost = request.config.model.sound
        return [f"output={request.format} holds no sound, which is left out; type output=mp4"] if lost else []
    size, name = request.requested, request.codec.name
    if pixel_format(name, size.height, size.width) == "yuv420p":
        return []
    full = f"{size} is odd, and {name} keeps it exactly with colours at full resolution (yuv444p)"
    return [f"{full}, which Safari and many hardware players can't play; type an even size or output.codec=av1"]
