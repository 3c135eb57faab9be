"""What each rank of a request reaches, by the machine's figures; and the shares of the tokens that follow from it.

Nothing is measured: the same request on the same machine is always shared in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from attention_backends.workload import LAUNCH, Speeds
from launcher.request.request import MAX_RANKS, Request

# s a message and bytes/s of cp.transport=host: the middle of three runs beside an H100 (attention_backends/gpu.json)
BY_HOST = 280e-6, 2.1e9


def rank_speeds(request: Request) -> list[Speeds]:
    """What each rank of a sequence reaches: a GPU, or its part of one, or its threads' share of the cores.

    Halves of guidance share their sequences alike, so the slower of the ranks at the same place counts.
    """
    ranks, sequence = min(request.mesh.ranks, MAX_RANKS), request.mesh.sequence
    found = [_speeds(request, rank, ranks) for rank in range(ranks)]
    return [min(found[place::sequence], key=lambda speeds: speeds.compute) for place in range(min(sequence, ranks))]


def _speeds(request: Request, rank: int, ranks: int) -> Speeds:
    devices, device = request.devices, request.device
    own = devices[rank % len(devices) :][:1] if devices else ()
    figures = request.machine.figures(device, own)
    tflops = figures.tflops_float32 if request.dtype == "float32" else figures.tflops
    latency, bandwidth = figures.link_us / 1e6, figures.link_gbps * 1e9
    cores, sharing = 1.0, 1
    if device == "cpu":
        threads = request.threads[rank]
        cores = threads * min(1.0, request.machine.nodes * request.machine.cores / sum(request.threads))
    elif devices:
        sharing = max(1, len(range(rank % len(devices), ranks // request.machine.nodes, len(devices))))
    if device == "cuda" and request.config.cp.transport == "host":
        latency, bandwidth = BY_HOST
    inside = latency, bandwidth
    ring = (0.0, 0.0)
    if request.machine.nodes > 1 and request.mesh.whole:
        mesh, here = request.mesh, max(1, ranks // request.machine.nodes)
        outside = figures.between_us / 1e6, figures.between_gbps * 1e9 / here
        latency, bandwidth = _mixed(inside, outside, mesh.ulysses, min(mesh.ulysses, here))
        ring = _mixed(inside, outside, mesh.ring, max(1, min(mesh.ring, here // mesh.ulysses)))
    return Speeds(
        latency=latency,
        bandwidth=bandwidth,
        compute=tflops * 1e12 * figures.efficiency * cores / sharing,
        memory=figures.memory_gbps * 1e9 / sharing,
        launch=LAUNCH if device == "cuda" else 0.0,
        ring_latency=ring[0],
        ring_bandwidth=ring[1],
    )


def _mixed(inside: tuple[float, float], outside: tuple[float, float], ranks: int, here: int) -> tuple[float, float]:
    """Latency and bandwidth that so many ranks see of each other, of which `here` are on one machine.

    What comes from the same machine takes the inner link, all else the outer one, whose bandwidth the ranks of a
    machine share.
    """
    away = (ranks - here) / (ranks - 1) if ranks > here else 0.0
    latency = (1 - away) * inside[0] + away * outside[0]
    return latency, 1 / ((1 - away) / inside[1] + away / outside[1])


def in_proportion(speeds: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers that compare as speeds do, to a hundredth of the slowest; empty if they are equal."""
    hundredths = [round(100 * speed / min(speeds)) for speed in speeds]
    common = math.gcd(*hundredths)
    return tuple(number // common for number in hundredths) if len(set(hundredths)) > 1 else ()
