"""Which schedule a ring runs by when asked for "auto": the cost model of cost.py with measured speeds.

Bandwidth, latency and speed are measured once a topology (so once an `enable`), and the slowest rank's numbers are
taken by all: ranks that chose differently would wait for each other's messages for ever. A measured choice may differ
between two runs, and with it the last bits of the result: name a schedule where they must not.
"""

import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from attention_backends import exchange, kernels
from attention_backends.cost import Shape, Speeds, cheapest
from attention_backends.ring import Ring


def speeds(ring: Ring, query: torch.Tensor, value: torch.Tensor) -> Speeds:
    """Measured at the first call for an operator and dtype (some 50 ms, more on a slow link), then remembered."""
    measured = ring.topology.measured
    key = (ring.operator, query.dtype)
    if key not in measured:
        measured[key] = _measure(ring, query, value)
    known: Speeds = measured[key]
    return known


def _measure(ring: Ring, query: torch.Tensor, value: torch.Tensor) -> Speeds:
    before = exchange.counters()
    peers, me, degree = ring.topology.ring, ring.topology.ring_index, ring.topology.ring_degree
    device = query.device

    def swap(size: int) -> float:
        """Seconds to send this many bytes to the next member and receive as many, for the slowest rank."""
        out, into = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
        sends, receives = [(peers[(me + 1) % degree], out)], [(peers[(me - 1) % degree], into)]
        return slowest(_least(lambda: exchange.wait(exchange.post(sends, receives, ring.topology.group)), device))

    def slowest(seconds: float) -> float:
        everyone = exchange.exchange_lengths([int(seconds * 1e9)], ring.topology.group, device)
        return max(max(numbers[0] for numbers in everyone) / 1e9, 1e-7)

    q, v = (x.new_ones(1, 512, *x.shape[2:]) for x in (query, value))
    k = v[..., :1].expand(*v.shape[:-1], q.shape[-1]).contiguous()
    flops = 2 * 512 * 512 * q.shape[2] * (q.shape[3] + v.shape[3])
    latency, size = swap(64), 1 << 18
    large = swap(size)
    if large < 5e-3:  # a fast link: a message that takes long enough to be timed
        size = 1 << 22
        large = swap(size)
    kernel = slowest(_least(lambda: kernels.attend(ring.operator, q, k, v), device))
    page = torch.zeros(1 << 24, dtype=torch.uint8, device=device)  # more than a cache holds
    memory = slowest(_least(lambda: page.add_(1), device))
    exchange.reset_counters(before)  # the counters speak of attention alone
    return Speeds(latency, size / max(large - latency, 1e-7), flops / kernel, page.numel() / memory)


def _least(call: Callable[[], object], device: torch.device, times: int = 5) -> float:
    """The least of some timings: whatever else runs only ever adds to one."""
    taken = []
    for _ in range(times + 1):  # the first is a warm-up
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


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
    name: str = measured[case]
    return name
