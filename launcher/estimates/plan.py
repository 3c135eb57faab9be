"""What a request leads to, as data. Nothing is started for it.

Sizes in pixels, memory and traffic in bytes, times in seconds; times and memory are estimates (ways.py, memory.py).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

from attention_backends.layout import split_heads
from launcher import offloading
from launcher.estimates import memory
from launcher.estimates.attentions import countable
from launcher.estimates.groups import most_an_hour, per_hour, picture_seconds
from launcher.estimates.memory import Memory
from launcher.estimates.notes import notes
from launcher.estimates.transfers import Travelling, travelling
from launcher.estimates.ways import priced, way
from launcher.estimates.weights import held_parts, with_weights
from launcher.machines import Figures
from launcher.problems import Problem
from launcher.request.geometry import Size
from launcher.request.mesh import Mesh
from launcher.request.request import Request
from launcher.request.way import Way
from launcher.rules import problems


@dataclass(frozen=True)
class Row:
    """One mode in the table of all.

    Args:
        layer_bytes: sent by the rank that sends most in the attention of one layer, step_bytes in those of a step.
        relative: layer_bytes over those of the legal parallel mode that sends least.
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
class Throughput:
    """What the whole machine makes in an hour when groups of ranks work at once and are never idle.

    Args:
        seconds: of denoising one picture by one group; pictures_an_hour: by all of them. Both are estimates.
    """

    groups: int
    mode: str
    mesh: Mesh
    seconds: float
    pictures_an_hour: float


@dataclass(frozen=True)
class Plan:
    """What a request leads to. Figures that its numbers do not allow are None or empty.

    Args:
        groups: of ranks that work at once, each on its part of the machine; all else is of the first one.
        held_bytes: of the weights of each part of the pipeline, by each rank; empty where they are not known.
        weights: of the transformer: "replicated", each rank holds all of them, or "sharded".
        replicated_seconds: with sharded weights what a step would take if each rank held all of them.
        memory_options: that memory=auto took. loading_bytes: of main memory, by all ranks of a machine while they load.
        offload: what travels because of runtime.offload=.
        picture_seconds: of denoising one picture; pictures_an_hour: by all groups.
        most_an_hour: what objective=throughput would reach with pictures enough.
    """

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
    weights: str
    held_bytes: list[dict[str, int]]
    replicated_seconds: float | None
    offload: Travelling | None
    memory: Memory | None
    memory_free_gib: float | None
    memory_options: tuple[str, ...]
    loading_bytes: int | None
    modes: list[Row]
    groups: int
    picture_seconds: float | None
    pictures_an_hour: float | None
    most_an_hour: Throughput | None

    def asdict(self) -> dict[str, Any]:
        """As data for JSON."""
        data = dataclasses.asdict(self)
        if self.memory is not None:
            data["memory"]["total"] = self.memory.total
        return data


def plan(request: Request) -> Plan:
    """Return the plan of a request; `legal` tells whether a run of it would start (here, or on the machine named)."""
    found, real = problems(request, plan=True), countable(request)
    seconds = picture_seconds(request)
    heads = split_heads(request.config.model.heads, request.mesh.ulysses, request.shares) if real else ()
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
        weights=request.weights,
        held_bytes=[held_parts(request, rank) for rank in range(request.mesh.ranks)] if real else [],
        replicated_seconds=None if found else _replicated_seconds(request),
        offload=_offload(request) if real else None,
        memory=memory.estimate(request),
        memory_free_gib=memory.free_gib(request),
        memory_options=request.taken,
        loading_bytes=memory.while_loading(request),
        modes=_rows(priced(request)),
        groups=request.groups,
        picture_seconds=seconds,
        pictures_an_hour=None if seconds is None else per_hour(request.groups, seconds),
        most_an_hour=None if found else _most_an_hour(request),
    )


def _replicated_seconds(request: Request) -> float | None:
    if request.weights == "replicated":
        return None
    return way(with_weights(request, "replicated")).seconds or None


def _offload(request: Request) -> Travelling | None:
    if request.config.runtime.offload == offloading.NONE:
        return None
    runtime = replace(request.config.runtime, offload=offloading.NONE)
    without = replace(request, config=replace(request.config, runtime=runtime), ways=())
    return travelling(request, way(without).seconds or None)


def _most_an_hour(request: Request) -> Throughput | None:
    """What as many groups as pay would make."""
    best = most_an_hour(request)
    if best is None:
        return None
    chosen, seconds = best
    return Throughput(chosen.groups, chosen.mode, chosen.mesh, seconds, per_hour(chosen.groups, seconds))


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
