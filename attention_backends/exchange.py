"""Moving uneven blocks between ranks, and counting what this rank moved.

Every exchange is a set of point-to-point messages of exactly the real tokens: gloo refuses uneven all_gather, padding
wastes the wire, and point-to-point messages are what NCCL's own all-to-all is made of. Peers are ranks of one
group, so no sub-groups are needed: a ring is every U-th rank, a Ulysses row is U neighbours.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.distributed as dist


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


def reset_counters() -> None:
    _COUNTERS.bytes = _COUNTERS.messages = _COUNTERS.size_exchanges = 0


def post(
    sends: Sequence[tuple[int, torch.Tensor]],
    receives: Sequence[tuple[int, torch.Tensor]],
    group: dist.ProcessGroup,
) -> list[dist.Work]:
    """Start all messages: (peer, contiguous tensor) each. Empty tensors are skipped, on both sides alike.

    Wait for each returned work before the tensors are read or written again.
    """
    operations = []
    for peer, tensor in receives:
        if tensor.numel():
            operations.append(dist.P2POp(dist.irecv, tensor, group=group, group_peer=peer))
    for peer, tensor in sends:
        if tensor.numel():
            _COUNTERS.bytes += tensor.numel() * tensor.element_size()
            _COUNTERS.messages += 1
            operations.append(dist.P2POp(dist.isend, tensor, group=group, group_peer=peer))
    return dist.batch_isend_irecv(operations) if operations else []


def wait(works: Sequence[dist.Work]) -> None:
    for work in works:
        work.wait()


def exchange_lengths(own: Sequence[int], group: dist.ProcessGroup, device: torch.device) -> list[tuple[int, ...]]:
    """Every rank's `own` numbers, in rank order. One tiny collective, on the CPU where the group can."""
    _COUNTERS.size_exchanges += 1
    on_cpu = "cpu" in str(dist.get_backend_config(group)) or dist.get_backend(group) == "gloo"
    where = torch.device("cpu") if on_cpu else device
    mine = torch.tensor(list(own), dtype=torch.int64, device=where)
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(everyone, mine, group=group)
    return [tuple(numbers.tolist()) for numbers in everyone]


def unshard(x: torch.Tensor, dim: int, lengths: Sequence[int], group: dist.ProcessGroup) -> torch.Tensor:
    """Concatenate every rank's uneven shard along `dim`; every rank gets the same tensor."""
    rank = dist.get_rank(group)
    shard = x.movedim(dim, 0).contiguous()
    whole = shard.new_empty((sum(lengths), *shard.shape[1:]))
    parts = whole.split(list(lengths))
    parts[rank].copy_(shard)
    peers = [peer for peer in range(len(lengths)) if peer != rank]
    wait(post([(peer, shard) for peer in peers], [(peer, parts[peer]) for peer in peers], group))
    return whole.movedim(0, dim).contiguous()
