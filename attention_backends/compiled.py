"""The exchanges as custom operators, so that torch.compile(fullgraph=True, dynamic=True) can step over them.

Dynamo can't trace point-to-point messages. It sees an opaque operator whose result's shape follows from its arguments;
at run time the operator does what the eager path does. What was split in the forward travels as integers, because
Python state written in a traced forward is only there when the graph has ended. Without a gradient: training is eager.
"""

from typing import Protocol

import torch

from attention_backends import exchange
from attention_backends.given import total
from attention_backends.header import checksum
from attention_backends.layout import Layout
from attention_backends.wire import Wire, guarded


class State(Protocol):
    """What this file needs of state.ContextParallel, which imports it."""

    transport: str
    streams: dict[str, int]
    first: list[tuple[int, ...]] | None
    shapes: int
    timestep: float
    where: str
    calls: int
    known: dict[tuple[int, int, int], tuple[Layout, Layout]]

    @property
    def wire(self) -> Wire: ...

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        is_causal: bool,
        scale: float | None,
        *,
        in_order: bool = False,
    ) -> torch.Tensor: ...


_ENABLED: dict[int, State] = {}  # by handle
# A CUDA graph can't hold what the host does in the middle of it: torch.compile cuts its graphs around these.
UNSAFE = (torch.Tag.cudagraph_unsafe,)


def add(state: State) -> int:
    """A handle for the state, the same on every rank that enables in the same order."""
    handle = max(_ENABLED, default=-1) + 1
    _ENABLED[handle] = state
    return handle


def enabled(wire: Wire) -> list[State]:
    """The states whose ranks are joined by this wire, and that have settled how they use it."""
    return [state for state in _ENABLED.values() if state.wire is wire and state.transport]


def remove(handle: int) -> None:
    _ENABLED.pop(handle, None)


@torch.library.custom_op("attention_backends::attend", mutates_args=(), tags=UNSAFE)
def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    is_causal: bool,
    scale: float | None,
    handle: int,
    first: bool,
    streams: list[int],
    where: str,
    given: list[int],
    timestep: torch.Tensor | None,
) -> torch.Tensor:
    """Attention over all ranks; tensors of `streams` tokens were split before it.

    first: no other in this forward; then `given` tells the shapes of what the forward was given, and `timestep` is its.
    """
    state = _ENABLED[handle]
    state.streams = {f"input {index}": total for index, total in enumerate(streams)}
    if first:
        state.first = None
        state.known.clear()
        state.calls = 0
        state.shapes, state.timestep = checksum(given), total(timestep)
        state.wire.begin()
    state.where = where
    told = query, key, value, mask, is_causal, scale
    return guarded(state.wire, lambda: state.attend(*told, in_order=True)).contiguous()


def _like_query(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: object) -> torch.Tensor:
    return query.new_empty((*query.shape[:3], value.shape[3]))


@torch.library.custom_op("attention_backends::attend_in_block", mutates_args=(), tags=UNSAFE)
def attend_in_block(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    is_causal: bool,
    scale: float | None,
    handle: int,
) -> torch.Tensor:
    """The same where a block is compiled by itself, in a forward that runs as it is written."""
    state = _ENABLED[handle]
    state.where = "a compiled block"
    told = query, key, value, mask, is_causal, scale
    return guarded(state.wire, lambda: state.attend(*told, in_order=True)).contiguous()


attend.register_fake(_like_query)
attend_in_block.register_fake(_like_query)


@torch.library.custom_op("attention_backends::unshard", mutates_args=(), tags=UNSAFE)
def unshard(x: torch.Tensor, dim: int, lengths: list[int], handle: int, where: str) -> torch.Tensor:
    """exchange.unshard without a gradient."""
    wire = _ENABLED[handle].wire
    wire.move_on(where)
    whole = guarded(wire, lambda: exchange.unshard(x, dim, lengths, wire))
    wire.end()  # or about: another output may be gathered yet
    return whole


@unshard.register_fake
def _(x: torch.Tensor, dim: int, lengths: list[int], handle: int, where: str) -> torch.Tensor:
    shape = list(x.shape)
    shape[dim] = sum(lengths)
    return x.new_empty(shape)
