"""Which schedule a ring runs by when asked for "auto": the cost model of cost.py with measured speeds.

Bandwidth, latency and speed are measured once a topology (so once an `enable`), and the slowest rank's numbers are
taken by all: ranks that chose differently would wait for each other's messages for ever. A measured choice may differ
between two runs, and with it the last bits of the result: name a schedule where they must not.
"""

import statistics
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from attention_backends import exchange, kernels
from attention_backends.cost import Shape, Speeds, cheapest
from attention_backends.ring_anything import Ring


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


def auto(ring: Ring, query: torch.Tensor, value: torch.Tensor) -> str:
    """The schedule of the least estimated time."""
    batch, _, heads, width = query.shape
    if ring.topology.ring_degree == 1 or not heads or not kernels.gives_lse(ring.operator):
        return "gather"
    if not dist.is_initialized():
        raise ValueError("schedule='auto' measures the link: torch.distributed must be initialised")
    known = speeds(ring, query, value)
    measured = ring.topology.measured
    # Members of one ring hold the same heads and know the same lengths: they choose alike.
    case = (ring.queries, ring.keys, query.shape, value.shape, query.dtype, ring.is_causal)
    if case not in measured:
        shape = Shape(heads, width, batch, value.shape[2], value.shape[3], query.element_size())
        measured[case] = cheapest(ring, shape, known)
    return measured[case]
