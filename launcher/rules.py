"""Every constraint, one small function each; `problems` tries all of them.

A rule gets the resolved request and yields a Problem for each way in which the request breaks it. Rules stand alone: a
rule must not assume that another one passed (a height may be -5 here). The constraints of the cp modes are those of
diffusers' `ContextParallelConfig` and of its dispatcher (0.42.1, models/_modeling_parallel.py).
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from attention_backends.catalog import KERNELS, SCHEDULES
from attention_backends.catalog import MODES as BACKEND_MODES
from launcher.geometry import divisors, sizes_that_divide
from launcher.model_rules import frames, masks, positions
from launcher.problems import Problem, choices, nearest
from launcher.request import EVEN_MODES, MODES, Request
from launcher.weights import weights_problems

Rule = Callable[[Request], Iterator[Problem]]

DTYPES = ("auto", "float32", "bfloat16", "float16")
FORMATS = ("png", "webp", "jpeg")
MODULES = {"flash-attn": "flash_attn", "flash-attn-3": "flash_attn_interface"}  # where the names differ
MAX_SIDE = 65536  # pixels: beyond it file formats and decoders give up (JPEG ends at 65535)
RANKS_PER_CORE = 8  # more ranks than that on a CPU only wait for each other
MAX_SEED = 2**63 - 1


def words(request: Request) -> Iterator[Problem]:
    """Settings that are one of a few words."""
    runtime, output = request.config.runtime, request.config.output
    given = {
        "cp.mode": (request.config.cp.mode, ("auto", *MODES), "cp="),
        "cp.schedule": (request.config.cp.schedule, SCHEDULES, "cp.schedule="),
        "attention.kernel": (request.config.attention.kernel, tuple(KERNELS), "attention.kernel="),
        "runtime.device": (runtime.device, ("auto", "cpu", "cuda"), "runtime.device="),
        "runtime.dtype": (runtime.dtype, DTYPES, "runtime.dtype="),
        "runtime.offload": (runtime.offload, ("none", "model"), "runtime.offload="),
        "output.format": (output.format, FORMATS, "output="),
        "model.text": (request.config.model.text, ("padded", "prompt", "whole"), "model.text="),
    }
    for key, (word, legal, key_to_type) in given.items():
        if word not in legal:
            best = (nearest(word, legal, 1) or [legal[0]])[0]
            yield Problem(f"{key}={word}", f"must be {choices(legal)}", f"type {key_to_type}{best}")


def counts(request: Request) -> Iterator[Problem]:
    """Numbers that count something, or seconds: at least 1 of it."""
    config = request.config
    given: dict[str, float | None] = {
        "height": config.height,
        "width": config.width,
        "steps": config.steps,
        "images": config.images,
        "model.text_tokens": config.model.text_tokens,
        "cp.ring_degree": config.cp.ring_degree,
        "cp.ulysses_degree": config.cp.ulysses_degree,
        "runtime.processes": config.runtime.processes,
        "runtime.threads": config.runtime.threads,
        "runtime.timeout": config.runtime.timeout,
        "runtime.stall_timeout": config.runtime.stall_timeout,
        "runtime.start_timeout": config.runtime.start_timeout,
    }
    for key, number in given.items():
        if number is not None and not (number >= 1 and math.isfinite(number)):
            yield Problem(f"{key}={number}", "must be at least 1", f"type {key}=1 or more")
    text, most = config.model.text_tokens, config.model.max_text_tokens
    if most is not None and text > most:
        rule = f"{config.model.pipeline} takes at most {most}"
        yield Problem(f"model.text_tokens={text}", rule, f"type model.text_tokens={most} or leave it out")
    for key, side in (("height", config.height), ("width", config.width)):
        if side > MAX_SIDE:
            yield Problem(f"{key}={side}", f"a side may have {MAX_SIDE} pixels", f"type {key}={MAX_SIDE} or less")
    if config.output.format == "webp" and max(config.height, config.width) > 16383:
        yield Problem("output=webp", "WebP pictures end at 16383 pixels a side", "type output=png")


def seeds(request: Request) -> Iterator[Problem]:
    """torch's generators take 64 bits; the last picture's seed counts too."""
    last = request.seed + len(request.prompts) * max(1, request.config.images) - 1
    if request.seed < 0 or last > MAX_SEED:
        yield Problem(f"seed={request.seed}", f"seeds go from 0 to {MAX_SEED}", "type seed=0 or leave it out")


def processes(request: Request) -> Iterator[Problem]:
    """The degrees are whole ranks, and their product is the number of processes."""
    ring, ulysses, world = request.ring_degree, request.ulysses_degree, request.processes
    if min(ring, ulysses, world) < 1:
        return  # named by counts
    if request.mode == "none":
        for key, number in (("cp.ring_degree", ring), ("cp.ulysses_degree", ulysses), ("runtime.processes", world)):
            if number > 1:
                yield Problem(
                    f"{key}={number}", "cp=none runs in one process", f"leave it out or type {_parallel(key)}"
                )
        return
    if ring * ulysses != world:
        formula = f"ring_degree {ring} x ulysses_degree {ulysses} = {ring * ulysses} ranks, not {world}"
        instead = f"type runtime.processes={ring * ulysses} or leave it out"
        yield Problem(f"runtime.processes={world}", f"must be the product of the degrees: {formula}", instead)


def _parallel(key: str) -> str:
    return "cp=ulysses_anything" if "ulysses" in key else "cp=ring_anything"


def modes(request: Request) -> Iterator[Problem]:
    """What each cp mode asks of its degrees, as diffusers' ContextParallelConfig does."""
    mode, ring, ulysses = request.mode, request.ring_degree, request.ulysses_degree
    if min(ring, ulysses) < 1:
        return
    if mode in ("ring", "ring_anything"):
        if ulysses > 1:
            yield Problem(f"cp.ulysses_degree={ulysses}", f"cp={mode} excludes Ulysses", _instead_of_both(mode))
        if ring < 2:
            yield Problem(
                f"cp.ring_degree={ring}", f"cp={mode} needs 2 ranks or more", "type cp.ring_degree=2 or cp=none"
            )
    elif mode in ("ulysses", "ulysses_anything"):
        if ring > 1:
            yield Problem(f"cp.ring_degree={ring}", f"cp={mode} excludes a ring", _instead_of_both(mode))
        if ulysses < 2:
            instead = "type cp.ulysses_degree=2 or cp=none"
            yield Problem(f"cp.ulysses_degree={ulysses}", f"cp={mode} needs 2 ranks or more", instead)
    elif mode == "unified":
        for key, degree, other in (("ring_degree", ring, "ulysses"), ("ulysses_degree", ulysses, "ring")):
            if degree < 2:
                rule = f"cp=unified combines both, each with 2 ranks or more ({ring} x {ulysses} here)"
                yield Problem(f"cp.{key}={degree}", rule, f"type cp.{key}=2 or cp={other}")
    elif mode == "unified_anything" and ring * ulysses < 2:
        instead = "type cp.ring_degree=2, cp.ulysses_degree=2 or cp=none"
        yield Problem("cp=unified_anything", "needs 2 ranks or more", instead)
    if request.config.cp.schedule != "auto" and not (mode in BACKEND_MODES and BACKEND_MODES[mode].lse):
        rule = f"only modes with a ring have schedules, and this is cp={mode}"
        yield Problem(f"cp.schedule={request.config.cp.schedule}", rule, "leave it out")


def _instead_of_both(mode: str) -> str:
    both = "unified_anything" if mode.endswith("_anything") else "unified"
    return f"leave it out, or type cp={both} instead of cp={mode}"


def heads(request: Request) -> Iterator[Problem]:
    """Ulysses gives every rank the same number of heads; the "anything" modes do not need that."""
    count, degree = request.config.model.heads, request.ulysses_degree
    if degree < 2 or count < 1 or request.mode not in ("ulysses", "unified") or count % degree == 0:
        return
    legal = [divisor for divisor in divisors(count) if divisor > 1]
    rule = f"{count} heads cannot be shared by {degree} ranks; legal degrees here: {', '.join(map(str, legal))}"
    instead = f"type cp.ulysses_degree={_closest(legal, degree)} or cp={_anything(request)}"
    yield Problem(f"cp={request.mode}", rule, instead)


def _anything(request: Request) -> str:
    """The mode that does the same for any length and any number of heads, and takes the model's mask."""
    modes = {"ring": "ring_anything", "ulysses": "ulysses_anything"}
    name = modes.get(request.mode, "unified_anything")
    return name if BACKEND_MODES[name].masks or not request.config.model.mask else "unified_anything"


def _closest(legal: list[int], wanted: int) -> int:
    return min(legal, key=lambda value: abs(value - wanted))


def streams_divide(request: Request) -> Iterator[Problem]:
    """ring, ulysses and unified cut every split stream into equal parts."""
    world = request.processes
    if request.mode not in EVEN_MODES or world < 2 or min(request.requested.height, request.requested.width) < 1:
        return
    anything = _anything(request)
    if request.texts is None:
        rule = f"{world} ranks must share the text tokens equally, and how many {request.config.model.name} has "
        rule += "follows from the prompt: not known before the start without its tokenizer.json"
        yield Problem(f"cp={request.mode}", rule, f"type cp={anything}")
    for length in request.texts or ():
        if length % world:
            legal = [divisor for divisor in divisors(length) if 1 < divisor <= 2 * world]
            rule = f"{world} ranks cannot share {length} text tokens equally"
            rule += f"; ranks that divide them: {', '.join(map(str, legal))}" if legal else ""
            yield Problem(f"cp={request.mode}", rule, f"type cp={anything}")
    for name, length in request.streams.items():
        if name == "text" or length % world == 0:
            continue
        latents = f" in each of {request.latents} latents in time" if request.latents > 1 else ""
        rule = f"{world} ranks cannot share {length} {name} tokens equally ({request.rendered} pixels{latents})"
        near = choices(
            f"height={size.height}"
            for size in sizes_that_divide(request.rendered, request.multiple, world, request.latents)
        )
        instead = f"type {near}, or cp={anything}" if near else f"type cp={anything}"
        yield Problem(f"cp={request.mode}", rule, instead)


def devices(request: Request) -> Iterator[Problem]:
    """The GPUs are there, one a rank; a CPU has cores for its ranks."""
    config, machine = request.config, request.machine
    count = len(machine.gpus)
    if config.runtime.devices is not None:
        value = f"runtime.devices={config.runtime.devices}".replace(" ", "")
        if request.device == "cpu":
            yield Problem(value, "names GPUs, and runtime.device=cpu uses none", "leave one out")
        elif len(set(config.runtime.devices)) != len(config.runtime.devices) or not config.runtime.devices:
            yield Problem(value, "must name GPUs, each once", "type runtime.devices=[0,1] or leave it out")
        elif wrong := [index for index in config.runtime.devices if not 0 <= index < count]:
            have = f"GPUs 0 to {count - 1}" if count else "no CUDA GPU"
            yield Problem(value, f"this machine has {have}, not {choices(wrong)}", "leave it out to use what is there")
    if request.device == "cpu":
        if config.model.needs_gpu and config.runtime.device == "auto":
            rule = f"is too large for a CPU, and this machine has {machine}"
            instead = "type model=flux_tiny, or insist with runtime.device=cpu (hours a picture)"
            yield Problem(f"model={config.model.name}", rule, instead)
        if request.processes > RANKS_PER_CORE * machine.cores:
            most = RANKS_PER_CORE * machine.cores
            rule = f"{machine.cores} cores serve at most {most} ranks"
            yield Problem(f"{request.processes} ranks on a CPU", rule, f"type runtime.processes={most} or less")
        if config.runtime.offload == "model":
            yield Problem("runtime.offload=model", "moves weights off a GPU, and this run uses none", "leave it out")
    elif request.device == "cuda":
        available = len(config.runtime.devices) if config.runtime.devices is not None else count
        if count == 0:
            yield Problem(
                "runtime.device=cuda", f"this machine has {machine}", "type runtime.device=cpu or leave it out"
            )
        elif request.processes > available:
            rule = f"one GPU a rank, and {available} are there"
            instead = f"type runtime.processes={available}" if available > 1 else "type cp=none"
            yield Problem(f"{request.processes} ranks", rule, instead)


def kernels(request: Request) -> Iterator[Problem]:
    """The kernel runs on this device, in this dtype, with this head size, and gives what the cp mode needs."""
    kernel = KERNELS.get(request.config.attention.kernel)
    if kernel is None:
        return  # named by words
    value, head_dim, mode = f"attention.kernel={kernel.name}", request.config.model.head_dim, request.mode
    if request.device not in kernel.devices:
        device = "CPU" if request.device == "cpu" else "GPU"
        yield Problem(value, f"does not run on a {device}, which this run uses", "type attention=auto")
    if request.dtype in DTYPES and request.dtype not in kernel.dtypes:
        instead = f"type runtime.dtype={kernel.dtypes[-1]} or attention=auto"
        yield Problem(value, f"computes in {choices(kernel.dtypes)}, and this run in {request.dtype}", instead)
    if kernel.head_dim_max and head_dim > kernel.head_dim_max:
        rule = f"takes heads of up to {kernel.head_dim_max} channels, and {request.config.model.name} has {head_dim}"
        yield Problem(value, rule, "type attention=auto")
    if kernel.head_dim_multiple and head_dim % kernel.head_dim_multiple:
        rule = f"takes heads of a multiple of {kernel.head_dim_multiple} channels, and there are {head_dim}"
        yield Problem(value, rule, "type attention=auto")
    if not kernel.lse and mode in BACKEND_MODES and BACKEND_MODES[mode].lse and request.config.cp.schedule != "gather":
        yield Problem(value, f"gives no log-sum-exp, which cp={mode} merges by", "type cp.schedule=gather")
    if kernel.package and importlib.util.find_spec(MODULES.get(kernel.package, kernel.package)) is None:
        yield Problem(value, f"needs the package {kernel.package}, which is not installed", "type attention=auto")


def guidance(request: Request) -> Iterator[Problem]:
    """No option is ignored: guidance and negative prompts go to models that take them."""
    config, model = request.config, request.config.model
    takes_scale = model.guidance_embeds or model.guidance_cfg
    if config.guidance is not None:
        value = f"guidance={config.guidance:g}"
        if not math.isfinite(config.guidance) or config.guidance < 0:
            yield Problem(value, "must be a number from 0", f"type guidance={model.guidance or 3.5}")
        elif not takes_scale:
            rule = f"{model.name} takes no distilled guidance scale"
            yield Problem(value, rule, "leave it out, or type model.true_cfg=2 for classifier-free guidance")
    elif takes_scale:
        instead = f"type guidance={model.guidance or 3.5} or leave it out"
        yield Problem("guidance=null", f"{model.name} needs a guidance scale", instead)
    scale = "guidance" if model.guidance_cfg else "model.true_cfg"
    if not (math.isfinite(model.true_cfg) and model.true_cfg >= 1):
        yield Problem(f"model.true_cfg={model.true_cfg:g}", "must be 1 (off) or more", f"type {scale}=2")
    elif model.guidance_cfg and model.true_cfg > 1:
        rule = f"{model.name} takes its classifier-free guidance scale as guidance"
        yield Problem(f"model.true_cfg={model.true_cfg:g}", rule, f"type guidance={model.true_cfg:g} instead")
    if config.negative_prompt is not None and request.negative_prompt is None:
        yield Problem(
            "negative_prompt",
            f"has no effect while {scale} is 1 (off)",
            f"type {scale}=2, which doubles the work, or leave it out",
        )


def output_folder(request: Request) -> Iterator[Problem]:
    """Pictures can be written: an own folder with room in it."""
    value, folder = f"output.dir={request.config.output.dir}", Path(os.path.expanduser(request.config.output.dir))
    try:
        there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        if not there.is_dir():
            yield Problem(value, f"{there.name} is a file", "choose another folder: output.dir=FOLDER")
        elif not os.access(there, os.W_OK | os.X_OK):
            yield Problem(value, "cannot be written to", "choose another folder: output.dir=FOLDER")
        else:
            count = max(1, request.config.images) * max(1, len(request.prompts))
            pixels = max(1, request.requested.height) * max(1, request.requested.width) * max(1, request.frames or 1)
            need = (1 << 20) + 4 * count * pixels
            if (free := shutil.disk_usage(there).free) < need:
                what = "pictures" if request.frames is None else "videos"
                rule = f"has {free / 2**20:.0f} MiB free, and {count} {what} may take {need / 2**20:.0f} MiB"
                yield Problem(value, rule, "choose a folder on another disk: output.dir=FOLDER")
    except (OSError, ValueError) as error:
        yield Problem(value, f"is no usable folder ({error})", "choose another: output.dir=FOLDER")


def weights(request: Request) -> Iterator[Problem]:
    """The model's weights are here, or can be fetched."""
    yield from weights_problems(request.config.model)


RULES: tuple[Rule, ...] = (
    words,
    counts,
    seeds,
    devices,
    processes,
    modes,
    heads,
    streams_divide,
    masks,
    frames,
    positions,
    kernels,
    guidance,
    output_folder,
    weights,
)


def problems(request: Request) -> list[Problem]:
    """Everything that is wrong with a request: empty when it can run."""
    return [*request.problems, *(problem for rule in RULES for problem in rule(request))]
