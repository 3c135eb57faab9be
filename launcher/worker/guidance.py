"""Guidance parallel: two halves of the ranks compute one branch of classifier-free guidance each.

No pipeline is changed for it. What stands in the transformer's place computes this half's branch and gets the other's
from the partner, the rank that holds the same part of the sequence in the other half; so a pipeline sees both results,
the same on every rank. There are two kinds of pipelines (model.guidance_branches):

calls   Two calls a step. The first half computes the first call at once; the second half goes past it with an empty
        buffer, which pipelines only slice before the second call, and computes that one meanwhile. In the second
        call the results are exchanged, and the buffer is filled.
batch   One call with both branches in one batch, one after the other. Each half computes its part of the batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._pytree import tree_flatten, tree_map  # diffusers' outputs are known to it

from attention_backends import exchange
from launcher.worker.telling import Shape, hear, shapes, tell

Forward = Callable[..., Any]
# The outputs of a first call by what it was given: their shapes are not known to the half that does not compute it.
Shapes = dict[tuple[object, ...], Any]


class Branches:
    """What a transformer's forward is replaced with.

    Args:
        forward: computes a branch. half: which one is this rank's, 0 or 1. pair: this rank and its partner.
        shapes: what is kept of earlier jobs. together: tells how many pictures the pipeline's call draws.
    """

    def __init__(
        self,
        forward: Forward,
        half: int,
        pair: dist.ProcessGroup,
        shapes: Shapes,
        together: Callable[[], int] = lambda: 1,
    ) -> None:
        self.forward, self.half, self.pair, self.shapes, self.together = forward, half, pair, shapes, together
        self._first: Any = None  # the first call's result, between the two calls of a step

    def calls(self, *args: Any, **kwargs: Any) -> Any:
        """One of two calls in turn."""
        if self._first is None:
            self._first = self._begin(args, kwargs)
            return self._first
        first, self._first = self._first, None
        if self.half == 0:
            second = tree_map(_empty, first)
            self._trade(first, second)
            return second
        second = self.forward(*args, **kwargs)
        self._trade(second, first)
        return second

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        known = _signature(args, kwargs)
        first = self.forward(*args, **kwargs) if self.half == 0 else None
        if known not in self.shapes:  # in the first step the second half waits for the first one
            told = shapes(first)
            if self.half == 0:
                tell(told, self.pair)
            self.shapes[known] = told if self.half == 0 else hear(self.pair)
        if self.half == 0:
            return first
        device = next(x.device for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor))
        return tree_map(lambda shape: _buffer(shape, device) if isinstance(shape, Shape) else shape, self.shapes[known])

    def batch(self, *args: Any, **kwargs: Any) -> Any:
        """One call with both branches; one without guidance is computed by both halves."""
        first = args[0] if args else next(iter(kwargs.values()))
        rows = self.together()  # of a branch
        if len(first) != 2 * rows:
            return self.forward(*args, **kwargs)

        def part(value: Any) -> Any:
            cuts = isinstance(value, list) or (isinstance(value, torch.Tensor) and value.ndim > 0)
            own = slice(self.half * rows, (self.half + 1) * rows)
            return value[own] if cuts and len(value) == 2 * rows else value

        mine = self.forward(*map(part, args), **{name: part(value) for name, value in kwargs.items()})
        others = tree_map(_empty, mine)
        self._trade(mine, others)
        return _joined(mine, others) if self.half == 0 else _joined(others, mine)

    def _trade(self, mine: Any, others: Any) -> None:
        """Send this half's tensors to the partner, and put its tensors into `others`, of the same shapes.

        Raises:
            ValueError: the two branches have outputs of different shapes.
        """
        sent = [x.contiguous() for x in tree_flatten(mine)[0] if isinstance(x, torch.Tensor)]
        taken = [x for x in tree_flatten(others)[0] if isinstance(x, torch.Tensor)]
        if [(x.shape, x.dtype) for x in sent] != [(x.shape, x.dtype) for x in taken]:
            raise ValueError("cp.cfg_degree=2: the two branches of guidance have outputs of different shapes")
        peer = 1 - self.half
        exchange.wait(exchange.post([(peer, x) for x in sent], [(peer, x) for x in taken], self.pair))


def _buffer(shape: Shape, device: torch.device) -> torch.Tensor:
    """Room for it. What were read too early would be seen: the latents would not be finite."""
    return torch.full(shape.size, float("nan"), dtype=shape.dtype, device=device)


def _empty(value: Any) -> Any:
    return torch.empty_like(value, memory_format=torch.contiguous_format) if isinstance(value, torch.Tensor) else value


def _signature(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[object, ...]:
    """The shapes of all that a forward is given: the same on every rank."""
    values, _ = tree_flatten((args, kwargs))
    return tuple((tuple(x.shape), x.dtype) if isinstance(x, torch.Tensor) else x for x in values)


def _joined(one: Any, two: Any) -> Any:
    """Two outputs as that of one batch: a list has an entry for each of it, a tensor a row."""
    if isinstance(one, torch.Tensor):
        return torch.cat([one, two])
    if isinstance(one, list):
        return [*one, *two]
    if isinstance(one, tuple):
        return tuple(_joined(*both) for both in zip(one, two, strict=True))
    return type(one)(**{name: _joined(one[name], two[name]) for name in one})  # an output class of diffusers


@contextlib.contextmanager
def divided(
    transformer: Any,
    branches: str,
    half: int,
    pair: dist.ProcessGroup,
    shapes: Shapes,
    together: Callable[[], int] = lambda: 1,
) -> Iterator[None]:
    """Have this rank compute one branch of the transformer's calls while the block runs.

    Args:
        branches: "calls" or "batch". The others: see Branches.
    """
    own = vars(transformer).get("forward")
    transformer.forward = getattr(Branches(transformer.forward, half, pair, shapes, together), branches)
    try:
        yield
    finally:
        if own is None:
            del transformer.forward
        else:
            transformer.forward = own
