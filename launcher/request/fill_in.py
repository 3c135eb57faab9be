"""A LaunchConfig, and what was read for it, to a Request. Pure: neither a file nor a clock nor chance is asked.

Nothing is refused here. What is illegal stays as it is, for the rules to name; all of it at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeGuard

from attention_backends.catalog import MODES
from launcher.config.schema import LaunchConfig
from launcher.machines import CPU_RANKS, Machine, part, planned
from launcher.request.geometry import Size, divisors, render_frames, render_size
from launcher.request.inputs import Inputs
from launcher.request.mesh import Mesh
from launcher.request.request import MAX_RANKS, Request
from launcher.request.speeds import in_proportion, rank_speeds


def fill_in(config: LaunchConfig, inputs: Inputs, here: Machine, groups: int = 1) -> Request:
    """Everything but cp=auto and cp.schedule=auto, which estimates decide, from the machine and the model.

    With cp=auto they decide on runtime.weights=auto too.

    Args:
        groups: that share the machine; the request is of the first one.
    """
    runtime, machine = config.runtime, planned(config.machine, here)
    device = runtime.device if runtime.device != "auto" else ("cuda" if machine.gpus or runtime.devices else "cpu")
    requested = Size(config.height, config.width)
    per_latent = config.model.frames_per_latent
    frames = config.frames if per_latent is not None else None
    request = Request(
        config=config,
        machine=part(machine, groups, runtime.devices),
        whole=machine,
        device=device,
        devices=(),
        dtype=runtime.dtype if runtime.dtype != "auto" else ("bfloat16" if device == "cuda" else "float32"),
        mode=config.cp.mode,
        mesh=Mesh(),
        processes=None,
        threads=(1,),
        requested=requested,
        rendered=render_size(requested, max(1, config.model.vae_scale * config.model.patch)),
        frames=frames,
        rendered_frames=render_frames(frames, max(1, per_latent or 1)) if frames is not None else None,
        inputs=inputs,
        weights=runtime.weights if runtime.weights != "auto" else "replicated",
        groups=groups,
    )
    cp = config.cp
    return shared(request, cp.mode, cp.ring_degree, cp.ulysses_degree, runtime.processes, cp.cfg_degree)


def shared(
    request: Request,
    mode: str,
    ring: int | None,
    ulysses: int | None,
    processes: int | None,
    cfg: int | None = None,
) -> Request:
    """The request with its work shared in this way; degrees and processes that are None follow from the rest."""
    config, machine = request.config, request.machine
    devices = request.usable if request.device == "cuda" else ()
    gpus = machine.nodes * len(devices) if request.device == "cuda" else None
    halves = 1 if cfg is None else cfg
    each, own = ((None if count is None else count // max(1, halves)) for count in (processes, gpus))
    mesh = replace(_mesh(mode, ring, ulysses, each, own, config.model.heads, machine.nodes), cfg=halves)
    count = min(max(1, mesh.ranks), MAX_RANKS)
    here = max(1, count // machine.nodes)  # ranks of one machine
    request = replace(
        request,
        mode=mode,
        mesh=mesh,
        processes=processes,
        devices=devices[: max(0, -(-mesh.ranks // machine.nodes))],
        threads=_threads(config.runtime.threads, count, max(1, machine.cores // here)),
        shares=(),
    )
    return replace(request, shares=_shares(request))


def _threads(typed: object, ranks: int, default: int) -> tuple[int, ...]:
    """Threads of each rank: one number for all, or a list; what is neither, a rule names."""
    if whole_numbers(typed, ranks):
        return tuple(typed)
    return (typed if isinstance(typed, int) and typed >= 1 else default,) * ranks


def _shares(request: Request) -> tuple[int, ...]:
    """How the ranks' parts of the tokens compare; what can't be, a rule names, and shares are equal here."""
    typed, mesh = request.config.cp.shares, request.mesh
    if typed == "auto" and mesh.whole:
        return in_proportion([speeds.compute for speeds in rank_speeds(request)])
    if whole_numbers(typed, mesh.sequence) and len(set(typed)) > 1:
        return tuple(typed)
    return ()


def whole_numbers(typed: object, count: int | None = None) -> TypeGuard[list[int]]:
    """Whether this is a list of so many whole numbers from 1; None: of any number of them."""
    numbers = typed if isinstance(typed, list) else []
    right = all(isinstance(each, int) and not isinstance(each, bool) and each >= 1 for each in numbers)
    return right and bool(numbers) and count in (None, len(numbers))


def _mesh(
    mode: str,
    ring: int | None,
    ulysses: int | None,
    processes: int | None,
    gpus: int | None,
    heads: int,
    nodes: int = 1,
) -> Mesh:
    """The degrees that are given, and those that follow.

    Args:
        gpus: GPUs to use, of all machines, or None on a CPU.
        nodes: machines. Ulysses stays within one, where it can, and the ring joins them.
    """
    row = MODES.get(mode)
    if row is None or not row.parallel:  # an unknown mode is named by a rule, and so are the degrees of cp=none
        return Mesh(ring=1 if ring is None else ring, ulysses=1 if ulysses is None else ulysses)
    world = processes or (gpus if gpus is not None else nodes * -(-CPU_RANKS // nodes))
    if not row.has_ulysses:
        ulysses = 1 if ulysses is None else ulysses
    elif not row.has_ring:
        ring = 1 if ring is None else ring
    else:
        world = processes or (gpus if gpus is not None else nodes * -(-2 * CPU_RANKS // nodes))
        if ring is None and ulysses is None and nodes > 1:
            ulysses = _within(world // nodes, heads if row.heads_divide else 0)
        elif ring is None and ulysses is None:
            ulysses = _balanced(world, heads if row.heads_divide else 0)
    if ulysses is None:
        assert ring is not None
        ulysses = _divide(world, ring)
    return Mesh(ring=ring if ring is not None else _divide(world, ulysses), ulysses=ulysses)


def _divide(world: int, degree: int) -> int:
    """The other degree; at least 1, so that a product that does not fit is named by its rule."""
    return max(1, world // degree) if degree > 0 else max(1, world)


def _within(ranks: int, heads: int) -> int:
    """The largest Ulysses degree within a machine of so many ranks that divides the heads (0: any will do)."""
    return _fitting(ranks, heads)[-1]


def _balanced(world: int, heads: int) -> int:
    """The Ulysses degree that divides both (0 heads: any will do) and leaves the shortest ring that is as long."""
    return [degree for degree in _fitting(world, heads) if degree * degree <= max(1, world)][-1]


def _fitting(ranks: int, heads: int) -> list[int]:
    """Degrees that divide ranks and heads (0: any number of them); 1 alone for more ranks than a rule lets through."""
    if ranks > MAX_RANKS:
        return [1]
    return [degree for degree in divisors(max(1, ranks)) if heads % degree == 0]
