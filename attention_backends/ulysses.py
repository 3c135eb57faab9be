"""Ulysses (https://arxiv.org/abs/2309.14509) over uneven shards: a row of ranks trades tokens for heads, and back.

Any lengths, any number of heads: a member gets the heads that `split_heads` gives it, none of them if there are fewer
heads than members.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from attention_backends import exchange
from attention_backends.kernels import lse_dtype
from attention_backends.layout import Layout
from attention_backends.topology import Topology

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Trade:
    """What a row trades, one message a peer for all tensors together.

    Args:
        heads: for each tensor the head range of each row member; ranges may overlap (key heads shared by query heads of
            several members).
        layouts: for each tensor the tokens of every rank.
        counts: the heads of each tensor, where this trade moves some of them only; (): all are moved.
    """

    heads: Sequence[Ranges]
    layouts: Sequence[Layout]
    topology: Topology
    counts: Sequence[int] = ()

    def count(self, number: int) -> int:
        """Heads of this tensor, on all members together."""
        return self.counts[number] if self.counts else max(end for _, end in self.heads[number])


def tokens_to_heads(trade: Trade, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """(B, S_local, H, D) each -> (B, S_row, H_mine, D) each: all of the row's tokens, this member's heads."""
    return start(trade, tensors)()


def start(trade: Trade, tensors: Sequence[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
    """Send what `tokens_to_heads` moves; returns what waits for the others' and gives its result."""
    heads, layouts, topology = trade.heads, trade.layouts, trade.topology
    row, mine = topology.row, topology.ulysses_index
    sends, receives, flats = [], [], {}
    for member, peer in enumerate(row):
        cuts = [x[:, :, slice(*ranges[member])].transpose(0, 1) for x, ranges in zip(tensors, heads, strict=True)]
        if member == mine:
            own = cuts
            continue
        sends.append((peer, _flat(cuts)))
        shapes = _shapes(tensors, heads, layouts, mine, peer)
        flats[member] = (tensors[0].new_empty(sum(map(_numel, shapes))), shapes)
        receives.append((peer, flats[member][0]))
    works, count = list(exchange.post(sends, receives, topology.group)), len(tensors)

    def finish() -> list[torch.Tensor]:
        exchange.wait(works)
        works.clear()
        sends.clear()  # their memory is wanted for what follows
        arrived = {member: _unflatten(flat, shapes) for member, (flat, shapes) in flats.items()}
        arrived[mine] = own
        parts = [{member: arrived[member][i] for member in range(len(row))} for i in range(count)]
        return [_joined([part[member] for member in range(len(row))], 0).transpose(0, 1) for part in parts]

    return finish


def heads_to_tokens(trade: Trade, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The adjoint of `tokens_to_heads`: (B, S_row, H_mine, D) each -> (B, S_local, H, D) each, overlaps summed."""
    return start_back(trade, tensors)()


def start_back(trade: Trade, tensors: Sequence[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
    """Send what `heads_to_tokens` moves; returns what waits for the others' and gives its result."""
    heads, layouts, topology = trade.heads, trade.layouts, trade.topology
    row, mine, rank = topology.row, topology.ulysses_index, topology.rank
    splits = [
        torch.split(x.transpose(0, 1), [layout.lengths[peer] for peer in row])
        for x, layout in zip(tensors, layouts, strict=True)
    ]
    sends, receives, flats = [], [], {}
    for member, peer in enumerate(row):
        if member == mine:
            continue
        sends.append((peer, _flat([split[member] for split in splits])))
        shapes = _shapes(tensors, heads, layouts, member, rank)
        flats[member] = (tensors[0].new_empty(sum(map(_numel, shapes))), shapes)
        receives.append((peer, flats[member][0]))
    works, own = list(exchange.post(sends, receives, topology.group)), [split[mine] for split in splits]

    def finish() -> list[torch.Tensor]:
        exchange.wait(works)
        works.clear()
        sends.clear()
        arrived = {member: _unflatten(flat, shapes) for member, (flat, shapes) in flats.items()}
        arrived[mine] = own
        results = []
        for i, (part, ranges, layout) in enumerate(zip(own, heads, layouts, strict=True)):
            shares = [arrived[member][i].transpose(0, 1) for member in range(len(row))]
            if sum(end - begin for begin, end in ranges) == trade.count(i):
                results.append(_joined(shares, 2))
                continue
            shape = (part.shape[1], layout.lengths[rank], trade.count(i), part.shape[-1])
            whole = part.new_zeros(shape, dtype=lse_dtype(part.dtype))  # gradients of shared key heads, in float32
            for share, (begin, end) in zip(shares, ranges, strict=True):
                whole[:, :, begin:end] += share
            results.append(whole.to(part.dtype))
        return results

    return finish


class TokensToHeads(torch.autograd.Function):
    """`tokens_to_heads` with its gradient, which is its adjoint."""

    @staticmethod
    def forward(ctx: Any, trade: Trade, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.trade = trade
        return tuple(tokens_to_heads(trade, tensors))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, *heads_to_tokens(ctx.trade, grads)


class HeadsToTokens(torch.autograd.Function):
    """`heads_to_tokens` with its gradient, which is its adjoint."""

    @staticmethod
    def forward(ctx: Any, trade: Trade, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.trade = trade
        return tuple(heads_to_tokens(trade, tensors))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, *tokens_to_heads(ctx.trade, grads)


def _shapes(
    tensors: Sequence[torch.Tensor], heads: Sequence[Ranges], layouts: Sequence[Layout], member: int, owner: int
) -> list[tuple[int, ...]]:
    """Shapes (S, B, h, D) of the parts with `member`'s heads and the tokens of rank `owner`."""
    return [
        (layout.lengths[owner], x.shape[0], ranges[member][1] - ranges[member][0], x.shape[-1])
        for x, ranges, layout in zip(tensors, heads, layouts, strict=True)
    ]


def _numel(shape: tuple[int, ...]) -> int:
    return shape[0] * shape[1] * shape[2] * shape[3]


def _joined(parts: Sequence[torch.Tensor], dim: int) -> torch.Tensor:
    """torch.cat, which is several times slower for strided parts on a GPU (7% of a step of FLUX on an H100)."""
    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    whole = parts[0].new_empty(shape)
    for place, part in zip(torch.split(whole, [part.shape[dim] for part in parts], dim), parts, strict=True):
        into, rows = exchange.words(place, part)
        into.copy_(rows)
    return whole


def _flat(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """One message of all parts, each copied once."""
    flat = parts[0].new_empty(sum(part.numel() for part in parts))
    for place, part in zip(_unflatten(flat, [part.shape for part in parts]), parts, strict=True):
        into, rows = exchange.words(place, part)
        into.copy_(rows)
    return flat


def _unflatten(flat: torch.Tensor, shapes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    parts = torch.split(flat, [_numel(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
