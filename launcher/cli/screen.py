"""What the user sees: a header, a progress bar, what was made. Errors go to standard error, and so does progress."""

from __future__ import annotations

import itertools
import sys
import textwrap
from pathlib import Path
from typing import Any

from launcher.estimates.notes import notes
from launcher.problems import LauncherError, Refused
from launcher.request.request import MAX_RANKS, Request
from launcher.wording import shorten


def header(request: Request, run_dir: Path) -> str:
    """What is about to happen."""
    prompt = request.prompts[0] if len(request.prompts) == 1 else f"{len(request.prompts)} prompts"
    told = {request.config.model.name: shorten(prompt), **facts(request), "seed": str(request.seed)}
    return rows(told | {"run": str(run_dir)} | noted(notes(request)))


def facts(request: Request) -> dict[str, str]:
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
        several = ", ".join(f"{count} hold{'s' * (count == 1)} {each}" for count, each in groups)
        tokens += f"; each rank holds {held[0]}" if len(groups) == 1 else f"; of the ranks {several}"
    parallel = request.mode if request.mode != "none" else "none, one process"
    if request.mode != "none":
        degrees = {"ring_degree": request.mesh.ring, "ulysses_degree": request.mesh.ulysses}
        parallel += "".join(f", {name} {degree}" for name, degree in degrees.items() if degree > 1)
        parallel += f", schedule {request.schedule}" if request.schedule else ""
    told = {"size": size}
    if request.frames is not None:
        told["frames"] = f"{request.frames}{cut}; {request.config.fps} a second"
    if request.config.lora.path is not None:
        told["lora"] = f"{shorten(Path(request.config.lora.path).name)}, scale {request.config.lora.scale:g}"
    told |= {"tokens": tokens, "parallel": parallel}
    return told | ({"because": request.why} if request.why else {}) | {"devices": _devices(request)}


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
    ranks = f"{request.mesh.ranks} rank{'s' * (request.mesh.ranks > 1)}"
    if request.device == "cpu":
        return f"{ranks} on the CPU, {request.threads} thread{'s' * (request.threads > 1)} each, {request.dtype}"
    names = sorted({gpu.name for gpu in request.machine.gpus if gpu.index in request.devices})
    return f"{ranks} on {', '.join(names)}, {request.dtype}"


def summary(record: dict[str, Any]) -> str:
    """What was made, how long it took, and how much memory each rank held at most."""
    run_dir, lines = record["folder"], []
    for facts in record["files"]:
        size = f"{facts['height']} x {facts['width']}"
        if "frames" in facts:
            size = f"{facts['frames']} frames of {size}, {facts['fps']} a second"
        kind = "video" if "frames" in facts else "picture"
        lines.append(f"{kind:<10} {run_dir / facts['file']}  ({size}, seed {facts['seed']})")
    stages = ", ".join(f"{stage} {value:.1f}" for stage, value in record["times"].items())
    lines.append(f"{'seconds':<10} {record['seconds']:.1f} ({stages})")
    peaks = ", ".join(f"{peak / 2**20:.0f}" for peak in record["peak_bytes"])
    lines.append(f"{'peak MiB':<10} {peaks}" + (" (ranks 0, 1, ...)" if len(record["peak_bytes"]) > 1 else ""))
    return "\n".join(lines)


def complain(error: LauncherError) -> None:
    """Say what is wrong, each problem on its own lines, on standard error."""
    if not isinstance(error, Refused):
        print(f"launcher: {error}", file=sys.stderr)
        return
    for problem in error.problems:
        print(f"launcher: {shorten(problem.value, 300)}: {problem.rule}", file=sys.stderr)
        if problem.instead:
            print(f"          {problem.instead}", file=sys.stderr)
    if error.works_here is not None:
        print(f"this line works here:\n  {error.works_here}", file=sys.stderr)
