"""The self-check: the first step of a request on all ranks together against one rank alone.

Every rank takes that step alone as well and compares its own: so each rank's result is looked at, and nothing has to
be sent. Where one rank's memory does not hold the whole, one block of each of the transformer's lists is checked:
inputs and outputs, the plan and the attention are the same then, only fewer layers follow each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist

from launcher.records.record import CHECK_BOUNDS, Check
from launcher.worker.steps import Steps

Draw = Callable[[], object]  # draws the first pictures of the job
Share = Callable[[], AbstractContextManager[object]]  # the ranks share the transformers while its block runs


class _Enough(Exception):  # noqa: N818
    """The first step is over."""


def compare(
    pipe: Any, transformers: list[Any], draw: Draw, share: Share, part: str, dtype: str, draw_one: Draw | None = None
) -> Check:
    """Take the first step alone and together, and tell how far apart the two are.

    Args:
        part: "step", the whole model, or "block"; the former becomes the latter if a rank's GPU is too small for it.

        draw_one: draws the first of several pictures alone.

    Raises:
        RuntimeError: the pipeline's scheduler was not asked for a step. FloatingPointError: latents are not finite.
    """
    alone: Steps | None = None
    if part == "step":
        with contextlib.suppress(torch.OutOfMemoryError):
            alone = _first(pipe, draw)
        if _anywhere(alone is None):
            part, alone = "block", None
            torch.cuda.empty_cache()
    with contextlib.ExitStack() as stack:
        if part == "block":
            for transformer in transformers:
                stack.enter_context(one_block(transformer))
        alone = alone or _first(pipe, draw)
        one = None if draw_one is None else _first(pipe, draw_one)
        with share():
            together = _first(pipe, draw)
    for steps, who in ((alone, "one rank alone"), (together, "all ranks together")):
        if not steps.finite:
            raise FloatingPointError(f"the latents of {who} are not finite after the first step in {dtype}")
    pairs = list(zip(together.predictions, alone.predictions, strict=True))
    relative = max(_apart(one, two) / max(two.abs().max().item(), 1e-30) for one, two in pairs)
    absolute = max(_apart(one, two) for one, two in zip(together.latents, alone.latents, strict=True))
    bound = CHECK_BOUNDS[dtype]
    batch = None
    if one is not None:
        firsts = zip(one.predictions, alone.predictions, strict=True)
        batch = max(_apart(own, all_[:1]) / max(own.abs().max().item(), 1e-30) for own, all_ in firsts)
    return Check(part, dtype, absolute, relative, bound, max(relative, batch or 0.0) <= bound, batch)


def _first(pipe: Any, draw: Draw) -> Steps:
    """The first step of a picture."""

    def enough(_step: int) -> None:
        raise _Enough

    steps = Steps(enough, lambda: None)
    with contextlib.suppress(_Enough), steps.of(pipe):
        draw()
    if not steps.latents:
        raise RuntimeError(f"{type(pipe).__name__} asked its scheduler for no step: there is nothing to compare")
    return steps


def _apart(one: torch.Tensor, two: torch.Tensor) -> float:
    """The largest difference."""
    return (one.double() - two.double()).abs().max().item()


def _anywhere(here: bool) -> bool:
    """Whether this holds on any rank."""
    told = torch.tensor([here], dtype=torch.int32)
    dist.all_reduce(told, dist.ReduceOp.MAX)
    return bool(told.item())


@contextlib.contextmanager
def one_block(transformer: Any) -> Iterator[None]:
    """Leave the first block of each of a transformer's lists while the block runs."""
    lists = {name: each for name, each in transformer.named_children() if isinstance(each, torch.nn.ModuleList)}
    try:
        for name, blocks in lists.items():
            setattr(transformer, name, torch.nn.ModuleList(blocks[:1]))
        yield
    finally:
        for name, blocks in lists.items():
            setattr(transformer, name, blocks)
