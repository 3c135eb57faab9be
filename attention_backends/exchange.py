"""Moving uneven blocks between ranks, and counting what this rank moved.

Every exchange is a set of point-to-point messages of exactly the real tokens: gloo refuses uneven all_gather, padding
wastes the wire, and point-to-point messages are what NCCL's own all-to-all is made of. Peers are ranks of one
group, so no sub-groups are needed: a ring is every U-th rank, a Ulysses row is U neighbours.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable

from attention_backends import transport
from attention_backends.transport import Group, Waits


@dataclass
class Counters:
    """What this rank has sent since the last reset: payload bytes, messages, and exchanges of lengths."""

    bytes: int = 0
    messages: int = 0
    size_exchanges: int = 0

    def asdict(self) -> dict[str, int]:
        return asdict(self)


_COUNTERS = Counters()


def counters() -> Counters:
    """A copy of this rank's counters."""
    return Counters(**_COUNTERS.asdict())


def reset_counters(to: Counters | None = None) -> None:
    """Back to zero, or to an earlier copy."""
    to = to or Counters()
    _COUNTERS.bytes, _COUNTERS.messages, _COUNTERS.size_exchanges = to.bytes, to.messages, to.size_exchanges


class ConnectionLostError(RuntimeError):
    """A message did not come through: another rank has failed, or has ended."""


class RankFailedError(RuntimeError):
    """Another rank failed in this forward, or ranks ran apart; the message says which, and why."""


def post(
    sends: Sequence[tuple[int, torch.Tensor]],
    receives: Sequence[tuple[int, torch.Tensor]],
    group: Group,
) -> Sequence[Waits]:
    """Start all messages: (peer, contiguous tensor) each. Empty tensors are skipped, on both sides alike.

    Wait for each returned work before the tensors are read or written again. CUDA tensors travel through host memory
    where the group has no NCCL for them: transport.py.

    Raises:
        ConnectionLostError: a connection is closed.
    """
    sends = [(peer, x) for peer, x in sends if x.numel()]
    for _, x in sends:
        _COUNTERS.bytes += x.nbytes
        _COUNTERS.messages += 1
    return _post(sends, [(peer, x) for peer, x in receives if x.numel()], group)


def _post(
    sends: Sequence[tuple[int, torch.Tensor]], receives: Sequence[tuple[int, torch.Tensor]], group: Group
) -> Sequence[Waits]:
    try:
        if not any(x.is_cuda for _, x in (*sends, *receives)):
            works = [group.recv([x], peer, transport.tag(x.nbytes, group)) for peer, x in receives]
            return works + [group.send([x], peer, transport.tag(x.nbytes, group)) for peer, x in sends]
        if not transport.has_nccl(group):
            return transport.post_by_host(sends, receives, group)
        there = transport.registered(group)
        operations = [dist.P2POp(dist.irecv, x, group=there, group_peer=peer) for peer, x in receives]
        operations += [dist.P2POp(dist.isend, x, group=there, group_peer=peer) for peer, x in sends]
        return dist.batch_isend_irecv(operations)
    except RuntimeError as error:
        raise ConnectionLostError(str(error)) from error


def words(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The tensors as 8-byte words if all can be looked at so: torch copies strided rows an element a thread."""
    size = tensors[0].element_size()
    if size >= 8:
        return tensors
    for x in tensors:
        *strides, last = x.stride()
        if last != 1 or any(n * size % 8 for n in (x.shape[-1], x.storage_offset(), *strides)):
            return tensors
    return tuple(x.view(torch.int64) for x in tensors)


def wait(works: Sequence[Waits]) -> None:
    """Wait for all of them. Raises ConnectionLostError if one does not come through, or what is known of why."""
    try:
        for work in works:
            work.wait()
    except RankFailedError:
        raise
    except RuntimeError as error:
        raise ConnectionLostError(str(error)) from error


class Batch:
    """Messages that were posted together; `wait` may be called by each of their readers."""

    def __init__(self, works: Sequence[Waits]) -> None:
        self._works = list(works)

    def wait(self) -> None:
        while self._works:  # once each: a second wait on a gloo receive never returns
            wait([self._works.pop()])


@dataclass(frozen=True)
class Transfer:
    """A message under way. span: the range of rows that has arrived after `wait`; None for one that is only sent."""

    batch: Batch
    span: tuple[int, int] | None = None

    def wait(self) -> None:
        self.batch.wait()


Spans = Sequence[Sequence[tuple[int, tuple[int, int]]]]


def start(buffer: torch.Tensor, sends: Spans, receives: Spans, group: Group) -> list[Transfer]:
    """Start moving rows of `buffer` in place: for each hop a list of (peer, range of rows), to and from.

    First pieces of all hops go first. NCCL runs all messages of one batch as one, so there a batch is a piece.
    """
    transfers = []
    depth = max((len(hop) for hop in [*sends, *receives]), default=0)
    for piece in range(depth):
        out = [hop[piece] for hop in sends if piece < len(hop)]
        arriving = [hop[piece] for hop in receives if piece < len(hop)]
        spans = [*(span for _, span in arriving), *[None] * len(out)]
        works = post(
            [(peer, buffer[begin:end]) for peer, (begin, end) in out],
            [(peer, buffer[begin:end]) for peer, (begin, end) in arriving],
            group,
        )
        # gloo has a work for each message, receives first as posted; NCCL has one for all.
        each = len(works) == len(spans)
        batches = [Batch([work]) for work in works] if each else [Batch(works)] * len(spans)
        transfers += [Transfer(batch, span) for batch, span in zip(batches, spans, strict=True)]
    return transfers


def exchange_lengths(own: Sequence[int], group: Group, device: torch.device) -> list[tuple[int, ...]]:
    """Every rank's `own` numbers, in rank order. One tiny exchange, on the CPU where the group can."""
    _COUNTERS.size_exchanges += 1
    rank, world = group.rank(), group.size()
    on_cpu = not isinstance(group, dist.ProcessGroup) or "gloo" in str(dist.get_backend_config(group))
    mine = torch.tensor(list(own), dtype=torch.int64, device=torch.device("cpu") if on_cpu else device)
    everyone = [mine if peer == rank else torch.empty_like(mine) for peer in range(world)]
    peers = [(rank + hop) % world for hop in range(1, world)]
    wait(_post([(peer, mine) for peer in peers], [(peer, everyone[peer]) for peer in peers], group))
    return [tuple(numbers.tolist()) for numbers in everyone]


class Unshard(torch.autograd.Function):
    """Concatenate every rank's uneven shard along a dimension; every rank gets the same tensor.

    The gradient of this rank's part is the sum of what all ranks have for it: what follows may be the same on each of
    them, or differ where a later part of the model is split again.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dim: int, lengths: tuple[int, ...], group: Group) -> torch.Tensor:
        ctx.dim, ctx.lengths, ctx.rank, ctx.group = dim, lengths, group.rank(), group
        shard = x.movedim(dim, 0).contiguous()
        whole = shard.new_empty((sum(lengths), *shard.shape[1:]))
        parts = torch.split(whole, list(lengths))
        parts[ctx.rank].copy_(shard)
        peers = [peer for peer in range(len(lengths)) if peer != ctx.rank]
        wait(post([(peer, shard) for peer in peers], [(peer, parts[peer]) for peer in peers], group))
        return whole.movedim(0, dim).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        parts = [part.contiguous() for part in torch.split(grads[0], list(ctx.lengths), dim=ctx.dim)]
        own = parts[ctx.rank]
        peers = [peer for peer in range(len(parts)) if peer != ctx.rank]
        arriving = {peer: torch.empty_like(own) for peer in peers} | {ctx.rank: own}
        sends = [(peer, parts[peer]) for peer in peers]
        wait(post(sends, [(peer, arriving[peer]) for peer in peers], ctx.group))
        total = torch.zeros_like(own, dtype=torch.promote_types(own.dtype, torch.float32))
        for peer in range(len(parts)):  # in rank order, so that the sum is the same however messages arrive
            total += arriving[peer]
        return total.to(own.dtype), None, None, None


def unshard(x: torch.Tensor, dim: int, lengths: Sequence[int], group: Group) -> torch.Tensor:
    """Every rank's shard of x, of these lengths, one after the other along dim; the same on every rank."""
    whole: torch.Tensor = Unshard.apply(x, dim, tuple(lengths), group)  # type: ignore[no-untyped-call]
    return whole


class Share(torch.autograd.Function):
    """The same tensor; of its gradient each of `world` ranks goes on with an equal share.

    Every rank computes the same loss from the same whole output. With shares of it the gradient of any parameter,
    whether its rank sees some tokens or all, is one summand: their sum over ranks is what one process computes.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, world: int) -> torch.Tensor:
        ctx.world = world
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grads[0] / ctx.world, None


def share(x: torch.Tensor, world: int) -> torch.Tensor:
    """The output of a model whose forward all ranks share, for a loss that each of them computes."""
    out: torch.Tensor = Share.apply(x, world) if x.requires_grad else x  # type: ignore[no-untyped-call]
    return out
