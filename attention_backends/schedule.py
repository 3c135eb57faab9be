"""Which schedule a ring runs by when asked for "auto": a cost model over numbers that every rank knows alike.

    wire(rank)    = bytes it receives / bandwidth + messages / message rate
    compute(rank) = 4 B Sq Skv H D / speed
    gather = max over ranks of  wire + compute
    staged = max over ranks of  max(compute, wire + last piece's compute) + merge

Bandwidth, latency and speed are measured once a topology (so once an `enable`), and the slowest rank's numbers are
taken by all: ranks that chose differently would wait for each other's messages for ever.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist

from attention_backends import exchange, kernels
from attention_backends.ring_anything import Ring

PIECE = 256  # tokens in a message of schedule "staged": attending to the last piece is what can't hide
_MARGIN = 0.9  # staged must promise this much: measured speeds are no better than that
_MERGE_PASSES = 4  # a merge reads and writes the output about this often for each further block


@dataclass(frozen=True)
class Speeds:
    """latency in s a message; bandwidth in bytes/s into a rank; compute in FLOP/s; memory in bytes/s of one pass."""

    latency: float
    bandwidth: float
    compute: float
    memory: float


def speeds(ring: Ring, query: torch.Tensor, value: torch.Tensor) -> Speeds:
    """Measured at the first call for an operator and dtype (some 10 ms, more on a slow link), then remembered."""
    measured = ring.topology.measured
    key = (ring.operator, query.dtype)
    if key not in measured:
        measured[key] = _measure(ring, query, value)
    return measured[key]


def _measure(ring: Ring, query: torch.Tensor, value: torch.Tensor) -> Speeds:
    before = exchange.counters()
    peers, me, degree = ring.topology.ring, ring.topology.ring_index, ring.topology.ring_degree
    small, large = (torch.zeros(size, dtype=torch.uint8, device=query.device) for size in (64, 1 << 19))
    into = [torch.empty_like(small), torch.empty_like(large)]

    def swap(x: torch.Tensor, y: torch.Tensor) -> None:
        sends = [(peers[(me + 1) % degree], x)]
        exchange.wait(exchange.post(sends, [(peers[(me - 1) % degree], y)], ring.topology.group))

    tokens = 256
    q, v = query.new_ones(1, tokens, *query.shape[2:]), value.new_ones(1, tokens, *value.shape[2:])
    flops = 4 * tokens * tokens * max(query.shape[2], 1) * query.shape[3]
    seconds = [
        _median(lambda: swap(small, into[0]), query.device),
        _median(lambda: swap(large, into[1]), query.device),
        _median(
            lambda: kernels.attend(ring.operator, q, v[..., :1].expand(*v.shape[:-1], q.shape[-1]).contiguous(), v),
            query.device,
        ),
        _median(lambda: large.add_(1), query.device),
    ]
    mine = [int(second * 1e9) for second in seconds]
    slowest = [max(column) / 1e9 for column in zip(*_all(mine, ring, query.device), strict=True)]
    exchange.reset_counters(before)  # the counters speak of attention alone
    latency, large_time, kernel, pass_time = (max(second, 1e-7) for second in slowest)
    bandwidth = large.numel() / max(large_time - latency, 1e-7)
    return Speeds(latency, bandwidth, max(flops, 1) / kernel, large.numel() / pass_time)


def _all(numbers: list[int], ring: Ring, device: torch.device) -> list[tuple[int, ...]]:
    return exchange.exchange_lengths(numbers, ring.topology.group, device)


def _median(call: Callable[[], object], device: torch.device, times: int = 5) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def estimate(ring: Ring, query: torch.Tensor, value: torch.Tensor, known: Speeds) -> float:
    """Seconds for the slowest rank of the ring. Local lengths come from the layouts, so all ranks agree."""
    batch, _, heads, width = query.shape
    key_heads = value.shape[2]
    row = batch * key_heads * (width + value.shape[3]) * query.element_size()
    worst = 0.0
    for member, queries in enumerate(ring.queries.lengths):
        need = ring.needed(member)
        others = [owner for owner in range(len(ring.keys.lengths)) if owner != member]
        pieces = [span for owner in others for span in ring.pieces(owner, member)]
        moved = sum(end - begin for begin, end in pieces) * row
        wire = moved / known.bandwidth + len(pieces) * known.latency if pieces else 0.0
        token = 4 * batch * queries * heads * width / known.compute  # seconds for one key
        if ring.schedule == "gather":
            worst = max(worst, wire + token * need)
            continue
        last = max((end - begin for begin, end in pieces), default=0)
        merge = _MERGE_PASSES * batch * queries * heads * value.shape[3] * 4 / known.memory
        worst = max(worst, max(token * need, wire + token * last) + merge)
    return worst


def auto(ring: Ring, query: torch.Tensor, value: torch.Tensor) -> tuple[str, int]:
    """(schedule, tokens a message) of the least estimated time."""
    if ring.topology.ring_degree == 1 or not kernels.gives_lse(ring.operator):
        return "gather", PIECE
    if not dist.is_initialized():
        raise ValueError("schedule='auto' measures the link: torch.distributed must be initialised")
    # Heads of a Ulysses row may be uneven: the estimate must not depend on this rank's share.
    known = speeds(ring, query, value)
    measured = ring.topology.measured
    case = (ring.queries, ring.keys, query.shape, value.shape, query.dtype, ring.is_causal)
    if case in measured:
        return measured[case], PIECE
    gather, staged = (estimate(replace(ring, schedule=name), query, value, known) for name in ("gather", "staged"))
    measured[case] = "staged" if staged < _MARGIN * gather else "gather"
    return measured[case], PIECE
