"""Ulysses (https://arxiv.org/abs/2309.14509) over uneven shards: a row of ranks trades tokens for heads, and back.

Any lengths, any number of heads: a member gets the heads that `split_heads` gives it, none of them if there are fewer
heads than members.

Each number is copied once on its way. A message is token-major, all tensors of a token side by side, so that it arrives
in its place among the row's tokens; the way back leaves from what attention gave. Members next to each other with as
many heads each are cut in one copy: copies one by one took 6% of a step of FLUX on four GPUs, and the host 1.4 ms a
layer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from attention_backends import exchange
from attention_backends.kernels import lse_dtype
from attention_backends.layout import Layout
from attention_backends.topology import Topology

Ranges = tuple[tuple[int, int], ...]
Finish = Callable[[], list[torch.Tensor]]


@dataclass(frozen=True, eq=False)
class Trade:
    """What a row trades, one message a peer for all tensors together.

    Args:
        heads: for each tensor the head range of each row member; ranges may overlap (key heads shared by query heads of
            several members).
        layouts: for each tensor the tokens of every rank.
        counts: the heads of each tensor, where this trade moves some of them only; (): all are moved.
        buffers: for each tensor the number of the buffer that it arrives in; tensors of one have the same layout, and
            its memory is held while any of them is. (): all in one.
    """

    heads: tuple[Ranges, ...]
    layouts: Sequence[Layout]
    topology: Topology
    counts: Sequence[int] = ()
    buffers: Sequence[int] = ()

    def count(self, number: int) -> int:
        """Heads of this tensor, on all members together."""
        return self.counts[number] if self.counts else max(end for _, end in self.heads[number])

    @cached_property
    def runs(self) -> Sequence[range]:
        return _runs(self.heads, self.topology.ulysses_index)

    @cached_property
    def tokens(self) -> list[tuple[int, ...]]:
        """For each buffer the tokens of each member of the row."""
        by_buffer = dict(zip(self.buffers or (0,) * len(self.layouts), self.layouts, strict=True))
        return [tuple(by_buffer[number].lengths[peer] for peer in self.topology.row) for number in sorted(by_buffer)]

    def columns(self, tensors: Sequence[torch.Tensor], member: int) -> "Columns":
        """Where a token's numbers lie among those of this member's heads."""
        return _columns(self.heads, tuple(x.shape[3] for x in tensors), tuple(self.buffers), member)


class Columns(NamedTuple):
    """widths: numbers of a token in each buffer; places: each tensor's buffer, first column, heads and channels."""

    widths: list[int]
    places: list[tuple[int, int, int, int]]

    def of(self, blocks: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Each tensor's part (..., S, B, h, D) of the buffers' rows, (..., S, B, width) each."""
        return [
            blocks[buffer].narrow(-1, first, heads * width).unflatten(-1, (heads, width))
            for buffer, first, heads, width in self.places
        ]

    def rows(self, flat: torch.Tensor, tokens: Sequence[int], batch: int) -> list[torch.Tensor]:
        """Rows (..., S, B, width) of each buffer in messages (..., numbers) of so many tokens."""
        parts = flat.split([batch * count * width for count, width in zip(tokens, self.widths, strict=True)], -1)
        return [
            part.unflatten(-1, (count, batch, width))
            for part, count, width in zip(parts, tokens, self.widths, strict=True)
        ]

    def numbers(self, tokens: Sequence[int], batch: int) -> int:
        """In a message of so many tokens."""
        return batch * sum(count * width for count, width in zip(tokens, self.widths, strict=True))


@lru_cache(1024)  # the same in every layer of a model
def _columns(heads: tuple[Ranges, ...], channels: tuple[int, ...], buffers: tuple[int, ...], member: int) -> Columns:
    widths, places = [0] * len(set(buffers or (0,))), []
    for number, (ranges, width) in enumerate(zip(heads, channels, strict=True)):
        buffer, count = buffers[number] if buffers else 0, ranges[member][1] - ranges[member][0]
        places.append((buffer, widths[buffer], count, width))
        widths[buffer] += count * width
    return Columns(widths, places)


@lru_cache(1024)
def _runs(heads: tuple[Ranges, ...], mine: int) -> list[range]:
    """The other members, in runs of as many heads each that begin equally far apart."""

    def steps(first: int, second: int) -> list[tuple[int, int]]:
        return [(ranges[second][0] - ranges[first][0], ranges[second][1] - ranges[first][1]) for ranges in heads]

    runs: list[range] = []
    for member in range(len(heads[0])):
        if member == mine:
            continue
        if runs and runs[-1].stop == member:
            run, step = runs[-1], steps(member - 1, member)
            alike = all(begin == end and begin > 0 for begin, end in step)
            if alike and (len(run) == 1 or steps(run[0], run[1]) == step):
                runs[-1] = range(run.start, member + 1)
                continue
        runs.append(range(member, member + 1))
    return runs


def _cut(x: torch.Tensor, ranges: Ranges, run: range) -> torch.Tensor:
    """Of x (B, S, H, D) the heads of each member of a run, (members, S, B, h, D): a view."""
    begin, end = ranges[run[0]]
    step = ranges[run[1]][0] - begin if len(run) > 1 else max(1, end - begin)
    held = x.narrow(2, begin, step * (len(run) - 1) + end - begin)
    return held.unfold(2, end - begin, step).permute(2, 1, 0, 4, 3)


def _copy(place: torch.Tensor, x: torch.Tensor) -> None:
    if place.numel():
        into, rows = exchange.words(place, x)
        into.copy_(rows)


def tokens_to_heads(trade: Trade, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """(B, S_local, H, D) each -> (B, S_row, H_mine, D) each: all of the row's tokens, this member's heads."""
    return start(trade, tensors)()


def start(trade: Trade, tensors: Sequence[torch.Tensor]) -> Finish:
    """Send what `tokens_to_heads` moves; returns what waits for the others' and gives its result."""
    row, mine, batch = trade.topology.row, trade.topology.ulysses_index, tensors[0].shape[0]
    own = [tokens[mine] for tokens in trade.tokens]
    sends, receives, parted = [], [], []
    for run in trade.runs:
        columns = trade.columns(tensors, run[0])
        messages = tensors[0].new_empty((len(run), columns.numbers(own, batch)))
        for place, x, ranges in zip(columns.of(columns.rows(messages, own, batch)), tensors, trade.heads, strict=True):
            if place.numel():
                _copy(place, _cut(x, ranges, run))
        sends += list(zip([row[member] for member in run], messages.unbind(), strict=True))
    columns = trade.columns(tensors, mine)
    joined = [
        tensors[0].new_empty((sum(tokens), batch, width))
        for tokens, width in zip(trade.tokens, columns.widths, strict=True)
    ]
    rows = list(zip(*(x.split(list(tokens)) for x, tokens in zip(joined, trade.tokens, strict=True)), strict=True))
    for place, x, ranges in zip(columns.of(rows[mine]), tensors, trade.heads, strict=True):
        _copy(place, x[:, :, slice(*ranges[mine])].transpose(0, 1))
    for member, peer in enumerate(row):
        if member == mine:
            continue
        if len(joined) == 1:
            receives.append((peer, rows[member][0]))
            continue
        held = [tokens[member] for tokens in trade.tokens]
        receives.append((peer, tensors[0].new_empty(columns.numbers(held, batch))))
        parted.append((rows[member], columns.rows(receives[-1][1], held, batch)))
    works = list(exchange.post(sends, receives, trade.topology.group))

    def finish() -> list[torch.Tensor]:
        exchange.wait(works)
        works.clear()
        sends.clear()  # their memory is wanted for what follows
        for places, parts in parted:
            for place, part in zip(places, parts, strict=True):
                place.copy_(part)
        parted.clear()
        receives.clear()
        return [x.transpose(0, 1) for x in columns.of(joined)]

    return finish


def heads_to_tokens(trade: Trade, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The adjoint of `tokens_to_heads`: (B, S_row, H_mine, D) each -> (B, S_local, H, D) each, overlaps summed."""
    return Back(trade, tensors).joined()


class Back:
    """What `heads_to_tokens` moves, under way. Tensors are left as they are until it has arrived."""

    def __init__(self, trade: Trade, tensors: Sequence[torch.Tensor]) -> None:
        topology, batch = trade.topology, tensors[0].shape[0]
        row, mine = topology.row, topology.ulysses_index
        self.trade, self.columns = trade, trade.columns(tensors, mine)
        if len(tensors) == 1:
            blocks = [tensors[0].transpose(0, 1).contiguous().flatten(2)]
        else:
            blocks = [
                tensors[0].new_empty((sum(tokens), batch, width))
                for tokens, width in zip(trade.tokens, self.columns.widths, strict=True)
            ]
            for place, x in zip(self.columns.of(blocks), tensors, strict=True):
                _copy(place, x.transpose(0, 1))
        rows = list(zip(*(x.split(list(tokens)) for x, tokens in zip(blocks, trade.tokens, strict=True)), strict=True))
        self.own = self.columns.of(rows[mine])
        sends = [(row[member], _joined(rows[member])) for member in range(len(row)) if member != mine]
        held, receives = [tokens[mine] for tokens in trade.tokens], []
        self.arriving: list[list[torch.Tensor]] = []  # for each run of members each tensor's part
        for run in trade.runs:
            columns = trade.columns(tensors, run[0])
            messages = tensors[0].new_empty((len(run), columns.numbers(held, batch)))
            receives += list(zip([row[member] for member in run], messages.unbind(), strict=True))
            self.arriving.append(columns.of(columns.rows(messages, held, batch)))
        self.leaving = sends
        self.works = list(exchange.post(sends, receives, topology.group))

    def empty(self, number: int) -> torch.Tensor:
        """Where this tensor arrives, (B, S_local, H, D)."""
        tokens, batch, _, width = self.own[number].shape
        return self.own[number].new_empty((batch, tokens, self.trade.count(number), width))

    def put(self, number: int, whole: torch.Tensor) -> None:
        """Wait, and copy the heads of a tensor into where it arrives."""
        self._wait()
        ranges, mine = self.trade.heads[number], self.trade.topology.ulysses_index
        _copy(whole[:, :, slice(*ranges[mine])], self.own[number].transpose(0, 1))
        for run, parts in zip(self.trade.runs, self.arriving, strict=True):
            if parts[number].numel():
                _copy(_cut(whole, ranges, run), parts[number])

    def joined(self) -> list[torch.Tensor]:
        self._wait()
        return [self._sum(number) for number in range(len(self.own))]

    def _sum(self, number: int) -> torch.Tensor:
        trade, own = self.trade, self.own[number]
        ranges, whole = trade.heads[number], self.empty(number)
        if sum(end - begin for begin, end in ranges) == trade.count(number):
            self.put(number, whole)
            return whole
        whole = torch.zeros_like(whole, dtype=lse_dtype(own.dtype))  # gradients of shared key heads, in float32
        shares = {trade.topology.ulysses_index: own}
        for run, parts in zip(trade.runs, self.arriving, strict=True):
            shares |= dict(zip(run, parts[number].unbind(), strict=True))
        for member, (begin, end) in enumerate(ranges):
            whole[:, :, begin:end] += shares[member].transpose(0, 1)
        return whole.to(own.dtype)

    def _wait(self) -> None:
        exchange.wait(self.works)
        self.works.clear()
        self.leaving.clear()  # their memory is wanted for what follows


def _joined(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    return rows[0] if len(rows) == 1 else torch.cat([x.flatten() for x in rows])


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
