"""Which schedule a ring runs by when asked for "auto": the cost model of cost.py with stated speeds.

Nothing is measured in a forward: ranks that chose differently would wait for each other's messages for ever, and a
measured choice differs between runs, and with it the last bits of a result. Whoever wants measured speeds measures
them once, on all ranks together, and gives them to `enable`.
"""

import time
from collections.abc import Callable
from functools import lru_cache

import torch
from torch.nn import functional

from attention_backends import cost, exchange, kernels
from attention_backends.cost import cheapest
from attention_backends.layout import Route
from attention_backends.transport import Group
from attention_backends.workload import SPEEDS, Attention, Shape, Speeds

ROUNDS = 3  # of measurements
_cheapest, _apart = lru_cache(1024)(cheapest), lru_cache(1024)(cost.apart)  # a model asks the same at each layer


def auto(
    route: Route,
    query: torch.Tensor,
    value: torch.Tensor,
    operator: str,
    speeds: Speeds | None,
    meanwhile: float = 0.0,
) -> str:
    """The schedule of the least estimated time, the same on every member of a ring.

    query, value: (B, S, H, D) with the heads that every member of this ring holds. speeds: of a rank, if not those
    that workload.SPEEDS states for the device. meanwhile: FLOPs for a token that run while keys travel.
    """
    batch, _, heads, width = query.shape
    if len(route.keys.lengths) == 1 or not heads or not kernels.gives_lse(operator):
        return "gather"
    shape = Shape(heads, width, batch, value.shape[2], value.shape[3], query.element_size())
    own = speeds or SPEEDS["cuda" if query.device.type == "cuda" else "cpu"]
    return _cheapest(route, shape, (own,) * len(route.keys.lengths), meanwhile)


def apart(one: Attention, device: str, speeds: Speeds | None) -> bool:
    """Whether tensors go in messages of their own, the same on every member: cost.apart."""
    return _apart(one, speeds or SPEEDS["cuda" if device == "cuda" else "cpu"])


def measure(group: Group, *, heads: int, head_dim: int, dtype: torch.dtype, device: torch.device) -> Speeds:
    """What the slowest rank reaches, the same numbers on every rank; all ranks of the group call it together.

    It takes a third of a second, more on a slow link: each speed is the best of three rounds, for what else runs on a
    machine comes and goes.
    """
    before = exchange.counters()
    rank, world = group.rank(), group.size()

    def slowest(call: Callable[[], object]) -> float:
        everyone = exchange.exchange_lengths([int(_least(call, device) * 1e9)], group, device)
        return max(max(numbers[0] for numbers in everyone) / 1e9, 1e-7)

    def swap(size: int) -> float:
        """Seconds to send this many bytes to the next rank and receive as many."""
        out, into = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
        sends, receives = [((rank + 1) % world, out)], [((rank - 1) % world, into)]
        return slowest(lambda: exchange.wait(exchange.post(sends, receives, group)))

    size = 1 << 18
    while swap(size) < 2e-2 and size < 1 << 22:  # one that takes long enough to be timed, and that no burst carries
        size *= 4
    qkv = [torch.ones(1, 512, heads, head_dim, dtype=dtype, device=device) for _ in range(3)]
    operator = kernels.choose("auto", qkv[0], qkv[2], mask=False, lse=True)
    width = heads * head_dim
    tokens, weight = qkv[0].view(512, width), torch.ones(4 * width, width, dtype=dtype, device=device)
    page = torch.zeros(1 << 24, dtype=torch.uint8, device=device)  # more than a cache holds
    calls = (
        lambda: kernels.attend(operator, *qkv),
        lambda: functional.linear(tokens, weight),
        lambda: page.add_(1),
    )
    rounds = [[swap(64), swap(size), *map(slowest, calls)] for _ in range(ROUNDS)]
    latency, large, kernel, linear, memory = map(min, zip(*rounds, strict=True))
    exchange.reset_counters(before)  # the counters speak of attention alone
    return Speeds(
        latency,
        size / max(large - latency, 1e-7),
        4 * 512 * 512 * width / kernel,
        page.numel() / memory,
        SPEEDS["cuda"].launch if device.type == "cuda" else 0.0,
        linear=2 * 512 * weight.numel() / linear,
    )


def _least(call: Callable[[], object], device: torch.device, times: int = 2) -> float:
    """The least of some timings: whatever else runs only ever adds to one."""
    taken = []
    for _ in range(times + 1):  # the first is a warm-up
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return min(taken[1:])
