"""What a run tells: the rows before it starts, and what it has made."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import quantizing
from launcher.compiling import FULL, REGIONAL
from launcher.decoding import Decoding
from launcher.estimates import memory
from launcher.estimates.notes import notes
from launcher.families.tasks import strength
from launcher.request.loras import loras
from launcher.request.request import MAX_RANKS, Request
from launcher.wording import plural, shorten

if TYPE_CHECKING:
    from launcher.records.record import Check
    from launcher.running.job import Made


def header(request: Request, run_dir: Path) -> str:
    """What is about to happen."""
    prompt = request.prompts[0] if len(request.prompts) == 1 else f"{len(request.prompts)} prompts"
    told = {
        request.config.model.name: shorten(prompt),
        **rows_of(request),
        **_memory(request),
        "seed": str(request.seed),
    }
    return rows(told | {"run": str(run_dir)} | noted(notes(request)))


def _memory(request: Request) -> dict[str, str]:
    """What the ranks are estimated to take."""
    need, host = memory.estimate(request), memory.while_loading(request)
    told = {} if need is None else {"memory": f"about {in_bytes(need.total)} on the fullest rank"}
    return told | ({} if host is None else {"loading": loading(host)})


def loading(count: int) -> str:
    """What all ranks of a machine are estimated to take while they load."""
    return f"about {in_bytes(count)} of main memory, all ranks together, while they load"


def in_bytes(count: int | None) -> str:
    """A count of bytes in the unit that suits it."""
    size = float(count or 0)
    for unit in ("B", "KiB", "MiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"


def rows_of(request: Request) -> dict[str, str]:
    """Size, tokens, mode and devices in words: the rows that a run's header and a plan share."""
    size = f"{request.requested} pixels"
    if request.rendered != request.requested:
        size += f", rendered at {request.rendered} and cropped"
    cut = f", rendered as {request.rendered_frames} and cut off" if request.rendered_frames != request.frames else ""
    at_most = "" if request.texts is not None and len(request.texts) < 2 else "up to "
    tokens = " + ".join(f"{at_most * (name == 'text')}{count} {name}" for name, count in request.streams.items())
    if 1 < request.mesh.sequence <= MAX_RANKS:
        held = [" + ".join(str(count) for count in rank.values()) for rank in request.tokens_per_rank]
        groups = [(len(list(same)), each) for each, same in itertools.groupby(held)]
        several = ", ".join(
            f"{plural(count * request.mesh.cfg, 'rank holds', 'ranks hold')} {each}" for count, each in groups
        )
        tokens += f"; each rank holds {held[0]}" if len(groups) == 1 else f"; {several}"
    mesh = request.mesh
    name = request.mode if request.config.cp.implementation == "own" else f"diffusers' own {request.mode}"
    parallel = name if mesh.ranks > 1 or request.mode != "none" else "none, one process"
    if mesh.ranks > 1:
        degrees = {"cfg_degree": mesh.cfg, "ring_degree": mesh.ring, "ulysses_degree": mesh.ulysses}
        parallel += "".join(f", {name} {degree}" for name, degree in degrees.items() if degree > 1)
        parallel += f", shares {', '.join(map(str, request.shares))}" if request.shares else ""
        parallel += f", schedule {request.schedule}" if request.schedule else ""
        parallel += ", sharded weights" if request.weights == "sharded" else ""
    told = {"size": size}
    if request.frames is not None:
        told["frames"] = f"{request.frames}{cut}; {request.config.fps} a second"
    for number, given in enumerate(request.inputs.pictures):
        row = given.setting.removesuffix("_image")
        told[row if row not in told else f"{row} {number + 1}"] = ", ".join(
            (f"{shorten(given.path.name)}, {given.size} pixels", *request.told_of(given))
        )
    if (kept := strength(request.config)) is not None:
        told["strength"] = f"{kept:g}, {plural(request.denoising_steps, 'step')} of {request.config.steps}"
    if not (wish := request.scheduler).empty:
        told["scheduler"] = wish.name if wish.name != "auto" else "the model's own"
        told["scheduler"] += f", shift {wish.shift:g}" if wish.shift is not None else ""
        told["scheduler"] += f", {wish.sigmas} sigmas" if wish.sigmas is not None else ""
        told["scheduler"] += "".join(f", {key} {item}" for key, item in (wish.options or {}).items())
    if (how := request.decoding) != Decoding():
        ways = [f"in tiles of {how.tile} pixels"] if how.tile is not None else []
        ways += ["shared by all ranks"] if how.shared else []
        ways += ["a batch's pictures one by one"] if how.slicing else []
        told["vae"] = f"decodes {', '.join(ways)}"
    if (cache := request.cache).on:
        numbers = {key: getattr(cache, key) for key in ("threshold", "interval", "warmup", "order")}
        told["cache"] = cache.name + "".join(f", {key} {x:g}" for key, x in numbers.items() if x is not None)
    if request.config.compile in (REGIONAL, FULL):
        told["compile"] = "the blocks" if request.config.compile == REGIONAL else "the whole"
        told["compile"] += f" of {' and '.join(request.config.model.transformers)}"
    if request.config.quantization != quantizing.NONE:
        told["quantised"] = (
            f"{' and '.join(request.config.model.transformers)}, weights in {request.config.quantization}"
        )
    fused = ", fused" if request.config.lora.fuse else ""
    for number, lora in enumerate(loras(request.config.lora), 1):
        name = Path(lora.path).name
        called = "" if lora.name in (name, Path(name).stem) else f"{lora.name}, "
        told["lora" if number == 1 else f"lora {number}"] = f"{called}{shorten(name)}, scale {lora.scale:g}{fused}"
    if request.config.batch > 1:
        calls = plural(len(request.calls), "call")
        told["batch"] = f"up to {request.batch} pictures in a call, {calls}; alone each is the same up to rounding"
    told |= {"tokens": tokens, "parallel": parallel}
    told |= {"because": request.why} if request.why else {}
    told |= {"fits by": request.taken_why} if request.taken_why else {}
    return told | {"devices": _devices(request)}


def noted(notes: list[str]) -> dict[str, str]:
    """Rows for what a user should know."""
    return {f"note {number}" if len(notes) > 1 else "note": text for number, text in enumerate(notes, 1)}


def rows(told: dict[str, str], width: int | None = None) -> str:
    """One row a fact, folded at `width` columns."""
    if width is None:
        return "\n".join(f"{name:<10} {text}" for name, text in told.items())
    fold = textwrap.TextWrapper(width, subsequent_indent=" " * 11, break_long_words=False, break_on_hyphens=False)
    return "\n".join(fold.fill(f"{name:<10} {text}") for name, text in told.items())


def _devices(request: Request) -> str:
    ranks = plural(request.mesh.ranks, "rank")
    if request.machine.nodes > 1:
        ranks += f" of {request.machine.nodes} machines"
    if request.groups > 1:
        ranks = f"{request.groups} groups at once, each of {ranks}"
    if request.device == "cpu":
        threads = f"{plural(request.threads[0], 'thread')} each"
        if len(set(request.threads)) > 1:
            threads = f"{', '.join(map(str, request.threads))} threads"
        return f"{ranks} on the CPU, {threads}, {request.dtype}"
    names = sorted({gpu.name for gpu in request.machine.gpus if gpu.index in request.devices})
    return f"{ranks} on {', '.join(names)}, {request.dtype}"


def checked(check: Check) -> str:
    """How close the ranks came to one rank."""
    part = "the first step" if check.part == "step" else "one block of each kind in the first step, as all do not fit,"
    verdict = "as one rank" if check.close else "not as one rank"
    bound = f"bound {check.bound:.0e} in {check.dtype}"
    off = f"{part} is off by {check.relative:.1e} of the prediction ({bound}), latents by {check.absolute:.1e}"
    if check.batch is not None:
        off += f"; a picture of the batch is off by {check.batch:.1e} of what is predicted for it alone"
    return f"{verdict}: {off}"


def summary(made: Made) -> str:
    """What was made, how long it took, and how much memory each rank held at most."""
    record, lines = made.record, []
    if record.check is not None:
        lines.append(f"{'check':<10} {checked(record.check)}")
    for file in record.files:
        size = f"{file.height} x {file.width}"
        if file.frames is not None:
            size = f"{file.frames} frames of {size}, {file.fps} a second"
        kind = "video" if file.frames is not None else "picture"
        lines.append(f"{kind:<10} {made.folder / file.file}  ({size}, seed {file.seed})")
    stages = ", ".join(f"{stage} {value:.1f}" for stage, value in (record.times or {}).items())
    lines.append(f"{'seconds':<10} {record.seconds:.1f} ({stages})")
    for number, steps in enumerate(record.skipped_steps):
        name = "skipped" if len(record.skipped_steps) == 1 else f"skipped {number + 1}"
        told = ", ".join(map(str, steps)) or "none"
        lines.append(f"{name:<10} steps that the cache stood in for, in part: {told}")
    peaks = [f"{peak / 2**20:.0f}" for peak in record.peak_bytes or ()]
    lines.append(f"{'peak MiB':<10} {', '.join(peaks)}" + (" (ranks 0, 1, ...)" if len(peaks) > 1 else ""))
    return "\n".join(lines)
