"""`python -m launcher plan ...` takes what a run takes, starts nothing, and tells what would happen.

Sizes in pixels, memory and traffic in bytes, times in seconds; times and memory are estimates (choose.py, memory.py).
"""

from __future__ import annotations

import dataclasses
import shlex
import textwrap
from dataclasses import dataclass
from typing import Any

from attention_backends.layout import split_heads
from launcher.cli.screen import facts, noted, rows
from launcher.estimates import memory
from launcher.estimates.memory import Memory
from launcher.estimates.notes import notes
from launcher.estimates.ways import countable, duration, priced
from launcher.machines import Figures
from launcher.problems import Problem
from launcher.request.geometry import Size
from launcher.request.mesh import Mesh
from launcher.request.request import Request
from launcher.request.way import Way
from launcher.rules.general import problems
from launcher.running import group as ranks

WIDTH = 116  # columns of the page
MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One mode in the table of all.

    Args:
        layer_bytes: sent by the rank that sends most in the attention of one layer, step_bytes in those of a step.
        relative: layer_bytes over those of the parallel mode that sends least.
        seconds: of a step, an estimate. These are None where the mode is not legal, for the reasons given.
    """

    mode: str
    mesh: Mesh
    schedule: str
    legal: bool
    reasons: list[Problem]
    layer_bytes: int | None
    step_bytes: int | None
    relative: float | None
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """What a request leads to; what its numbers do not allow to be told is None or empty."""

    legal: bool
    problems: list[Problem]
    notes: list[str]
    model: str
    requested: Size
    rendered: Size
    requested_frames: int | None
    rendered_frames: int | None
    streams: dict[str, int]
    tokens_per_rank: list[dict[str, int]]
    heads_per_rank: list[int]
    mode: str
    mesh: Mesh
    schedule: str
    why: str
    device: str
    dtype: str
    machine: str
    figures: Figures
    memory: Memory | None
    memory_free_gib: float | None
    command: str
    modes: list[Row]

    def asdict(self) -> dict[str, Any]:
        """As data for JSON."""
        data = dataclasses.asdict(self)
        if self.memory is not None:
            data["memory"]["total"] = self.memory.total
        return data


def plan(request: Request) -> Plan:
    """The plan for a request; `legal` is whether a run of it would be started (here, or on the machine named)."""
    found, real = problems(request, plan=True), countable(request)
    heads = split_heads(request.config.model.heads, request.mesh.ulysses) if real else ()
    return Plan(
        legal=not found,
        problems=found,
        notes=notes(request),
        model=request.config.model.name,
        requested=request.requested,
        rendered=request.rendered,
        requested_frames=request.frames,
        rendered_frames=request.rendered_frames,
        streams=request.streams,
        tokens_per_rank=request.tokens_per_rank if real else [],
        heads_per_rank=[end - begin for begin, end in heads] * request.mesh.ring if real else [],
        mode=request.mode,
        mesh=request.mesh,
        schedule=request.schedule,
        why=request.why,
        device=request.device,
        dtype=request.dtype,
        machine=f"{'this machine' if request.machine.here else request.machine.name}: {request.machine}",
        figures=request.machine.figures(request.device, request.devices),
        memory=memory.estimate(request),
        memory_free_gib=memory.free_gib(request),
        command=shlex.join(["python", *ranks.command(request.mesh.ranks)[1:]]) if real else "",
        modes=_rows(priced(request)),
    )


def _rows(table: tuple[Way, ...]) -> list[Row]:
    least = min((one.layer_bytes for one in table if one.layer_bytes), default=0)
    found = []
    for one in table:
        known = not one.problems and one.seconds > 0
        found.append(
            Row(
                mode=one.mode,
                mesh=one.mesh,
                schedule=one.schedule,
                legal=not one.problems,
                reasons=list(one.problems),
                layer_bytes=one.layer_bytes if known else None,
                step_bytes=one.step_bytes if known else None,
                relative=round(one.layer_bytes / least, 2) if known and least else None,
                seconds=one.seconds if known else None,
            )
        )
    return found


def page(plan: Plan, request: Request) -> str:
    """The plan for the screen."""
    shown = {"plan": f"{plan.model} on {plan.machine}", **facts(request)}
    if plan.heads_per_rank:
        most, least = max(plan.heads_per_rank), min(plan.heads_per_rank)
        shown["heads"] = f"{most} on each rank" if most == least else f"{least} to {most} on a rank"
    mine = next((row for row in plan.modes if row.mode == plan.mode and row.seconds is not None), None)
    if mine is not None:
        if mine.mesh.ranks > 1:
            shown["sent"] = (
                f"at most {_bytes(mine.layer_bytes)} by a rank in a layer, {_bytes(mine.step_bytes)} in a step"
            )
        shown["step"] = f"about {duration(mine.seconds or 0)}"
    if plan.memory is not None:
        shown["memory"] = _memory(plan)
    if plan.command:
        shown["starts"] = plan.command
    figures = plan.figures
    shown["speeds"] = (
        f"{figures.tflops:g} TFLOP/s, {figures.tflops_float32:g} in float32, of which {figures.efficiency:.0%}; link "
        f"{figures.link_gbps:g} GB/s, {figures.link_us:g} us a message (from {figures.source})"
    )
    return f"{rows(shown | noted(plan.notes), WIDTH)}\n\n{_table(plan)}"


def _memory(plan: Plan) -> str:
    memory = plan.memory
    assert memory is not None
    weights = "weights not known" if memory.weights is None else f"weights {_bytes(memory.weights)}"
    parts = f"libraries {_bytes(memory.base)}, {weights}, then activations {_bytes(memory.activations)}"
    parts += f" and attention's buffers {_bytes(memory.buffers)}, or decoding {_bytes(memory.decoding)}"
    free = "" if plan.memory_free_gib is None else f"; {plan.memory_free_gib:.1f} GiB are free for it"
    return f"about {_bytes(memory.total)} on the fullest rank ({parts}){free}"


def _table(plan: Plan) -> str:
    """All modes: legal or the reasons why not, traffic, step time."""
    head = ("a layer sends", "relative", "a step, about")
    lines = [f"  {'all modes':<17} {'ring x ulysses':<15} {head[0]:>13}  {head[1]:>8}  {head[2]:>13}  schedule"]
    for row in plan.modes:
        mark = "*" if row.mode == plan.mode else " "
        start = f"{mark} {row.mode:<17} {f'{row.mesh.ring} x {row.mesh.ulysses}':<15}"
        if row.seconds is None:
            told = "; ".join(reason.rule for reason in row.reasons)
            text = f"no: {told}" if told else "no: its numbers are none to reckon with"
            lines.append(textwrap.fill(text, WIDTH, initial_indent=f"{start} ", subsequent_indent=" " * 40))
            continue
        sent = "-" if row.mesh.ranks == 1 else _bytes(row.layer_bytes)
        relative = "-" if row.relative is None or row.mesh.ranks == 1 else f"{row.relative:.2f}"
        lines.append(f"{start} {sent:>13}  {relative:>8}  {duration(row.seconds):>13}  {row.schedule}".rstrip())
    return "\n".join([*lines, "* is what runs. Step times are estimates by the speeds above."])


def _bytes(count: int | None) -> str:
    """A count of bytes in the unit that suits it."""
    size = float(count or 0)
    for unit in ("B", "KiB", "MiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"
