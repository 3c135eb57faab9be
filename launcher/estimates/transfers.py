"""What an offload moves to a GPU, and about how long that takes on its link to main memory (machine.host_gbps).

With t the link's time for a transformer's weights, c the computing of one of its L blocks' worth of a call:

    group       max(L c, t) + t / L   a block's weights travel while the one before computes, but for the first
    sequential  L c + t               a layer's weights travel before it computes, and nothing else does meanwhile
    model       each part of the pipeline goes to the GPU and back for each call of the pipeline, beside no step

A rank on a GPU of its own has a link of its own; ranks that share a GPU share it. `sequential` copies from memory that
is not pinned, which takes longer than the link says; `group` from pinned memory. None of it was run on a GPU yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher import offloading
from launcher.estimates.weights import held_parts, sharded_bytes
from launcher.request.request import Request


@dataclass(frozen=True)
class Travelling:
    """What travels because of runtime.offload=.

    Args:
        each: "step", or "call" of the pipeline, for which all of it goes back to main memory, too.
        bytes: to the GPU of the rank that moves most. seconds: of all that; None: the link's speed is not known.
        step_seconds: of a step without the offload, if it is part of a step.
    """

    each: str
    bytes: int
    seconds: float | None
    step_seconds: float | None = None


def in_a_call(request: Request) -> int:
    """Bytes of weights that come to a rank in each call of the transformer."""
    moves = request.device == "cuda" and request.config.runtime.offload in offloading.IN_PIECES
    return sharded_bytes(request) if moves else 0


def beside(request: Request, seconds: float) -> float:
    """A step's seconds with what an offload moves; without that where the link's speed is not known."""
    count, calls = in_a_call(request), _calls(request)
    wire = link_seconds(request, count) if count else None
    if wire is None:
        return seconds
    if request.config.runtime.offload == offloading.SEQUENTIAL:
        return seconds + calls * wire
    return max(seconds, calls * wire) + calls * wire / max(1, request.config.model.layers)


def travelling(request: Request, step_seconds: float | None) -> Travelling | None:
    """What travels for a request; None without an offload, or where the weights are not known.

    Args:
        step_seconds: of a step without an offload.
    """
    if count := in_a_call(request) * _calls(request):
        return Travelling("step", count, link_seconds(request, count), step_seconds)
    if request.device != "cuda" or request.config.runtime.offload != offloading.MODEL:
        return None
    count = sum(held_parts(request, 0).values())
    return Travelling("call", count, link_seconds(request, 2 * count)) if count else None


def link_seconds(request: Request, count: int) -> float | None:
    """Seconds that a GPU's link takes for so many bytes of each of its ranks; None: its speed is not known."""
    speed = request.machine.figures(request.device, request.devices).host_gbps
    return None if speed is None else count * request.ranks_per_device / (speed * 1e9)


def _calls(request: Request) -> int:
    """Calls of the transformer that a rank makes in a step."""
    return -(-request.passes // request.mesh.cfg)
