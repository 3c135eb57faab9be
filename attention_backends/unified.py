"""Uneven Ulysses inside, uneven ring outside: any ring_degree x ulysses_degree, any lengths, any number of heads.

Ulysses trades tokens for heads within a row of neighbouring ranks; the ring then runs over rows, each rank with its own
heads (https://arxiv.org/abs/2405.07719). With one row it is Ulysses alone, with rows of one rank it is the ring alone.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from attention_backends.deferred import now
from attention_backends.kernels import choose
from attention_backends.layout import Layout, Route, key_heads
from attention_backends.masks import gather_mask
from attention_backends.ring import Ring, RingAttention
from attention_backends.ring import begin as start
from attention_backends.schedule import apart as apart_by_speeds
from attention_backends.schedule import auto
from attention_backends.topology import Topology
from attention_backends.trades import Trades
from attention_backends.ulysses import HeadsToTokens, TokensToHeads, Trade
from attention_backends.workload import NOTHING, Attention, Meanwhile, Shape, Speeds


def context_parallel_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None, **told: Any
) -> torch.Tensor:
    """Exact attention of the whole sequence; each rank gives and gets its own tokens, (B, S_local, H, D).

    told: the named arguments of `begin`.
    """
    return begin(query, key, value, mask, **told)()


class Begun:
    """An attention whose tensors are under way; called, it gives its result."""

    def __init__(self, attend: Callable[[], Callable[[], torch.Tensor]], trades: bool) -> None:
        self._attend: Callable[[], Callable[[], torch.Tensor]] | None = attend
        self._output: Callable[[], torch.Tensor] | None = None
        self.trades = trades  # its output is traded, too

    def ahead(self) -> None:
        """Wait for what is attended to, attend, and send the output that other ranks hold."""
        if self._attend is not None:
            attend, self._attend = self._attend, None
            self._output = attend()

    def __call__(self) -> torch.Tensor:
        self.ahead()
        if self._output is None:
            raise RuntimeError("this attention has failed before, or has given its result")
        output, self._output = self._output, None
        return output()


def begin(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    queries: Layout,
    keys: Layout,
    topology: Topology,
    is_causal: bool = False,
    scale: float | None = None,
    kernel: str = "auto",
    schedule: str = "auto",
    speeds: Speeds | None = None,
    meanwhile: Meanwhile = NOTHING,
    apart: bool | None = None,
) -> Begun:
    """Sends the keys; returns what waits for the others' and attends. A query that is put off is computed there.

    speeds: what schedule "auto" goes by, if not workload.SPEEDS. meanwhile: what runs before the wait.
    apart: whether tensors go in messages of their own, on all ranks alike: a Ulysses row's (trades.py), or else a
        ring's values and keys (ring.py); None: by the speeds.
    """
    queries.check(topology.rank, query.shape[1], "queries")
    keys.check(topology.rank, key.shape[1], "keys")
    if mask is not None and mask.requires_grad:
        raise ValueError(
            "the attention mask requires a gradient, and a mask's gradient is not computed. Pass mask.detach()."
        )
    group_size = query.shape[2] // key.shape[2]
    q_heads = topology.heads(query.shape[2])
    k_heads = tuple(key_heads(heads, group_size) for heads in q_heads)
    row_mask = gather_mask(mask, queries, keys, q_heads, topology, query.shape[0]) if mask is not None else None
    inner = topology.ulysses_degree > 1
    trades, grouped = None, [key]
    shape = Shape(query.shape[2], query.shape[3], query.shape[0], key.shape[2], value.shape[3], query.element_size())
    one = Attention(
        queries,
        keys,
        shape,
        topology.ring_degree,
        topology.ulysses_degree,
        key_mask=int(row_mask is not None),
        mask_per_head=row_mask is not None and row_mask.tensor.shape[1] > 1,
        shares=topology.shares,
        meanwhile=meanwhile,
    )

    def goes_apart(one: Attention) -> bool:
        return apart_by_speeds(one, query.device.type, speeds) if apart is None else apart

    if inner and goes_apart(one):
        trades = Trades(queries, keys, topology, q_heads, k_heads, query.shape[2], one.groups)
        query, grouped, value = trades.inward(query, key, value)
    elif inner:
        # Keys and values that go on around a ring leave their memory for its buffer's.
        alone = topology.ring_degree == 1 and queries == keys
        inward = Trade((q_heads, k_heads, k_heads), (queries, keys, keys), topology, buffers=() if alone else (0, 1, 1))
        query, key, value = TokensToHeads.apply(inward, now(query), now(key), now(value))  # type: ignore[no-untyped-call]
        grouped = [key]
    first, end = q_heads[topology.ulysses_index]
    index = None
    if group_size > 1 and (first % group_size or (end - first) % group_size):
        # These query heads do not fill whole groups: each is told its key head.
        index = torch.arange(first, end, device=key.device) // group_size - k_heads[topology.ulysses_index][0]
    operator = choose(kernel, query, value, mask=mask is not None or is_causal, lse=schedule == "staged")
    rows = queries.rows(topology.ulysses_degree), keys.rows(topology.ulysses_degree)
    if schedule == "auto":
        schedule = auto(Route(*rows, is_causal), query, value, operator, speeds, meanwhile.total)
    ring = Ring(
        *rows,
        is_causal,
        schedule,
        topology=topology,
        mask=row_mask,
        scale=scale,
        operator=operator,
        key_index=index,
        apart=not inner and topology.ring_degree > 1 and goes_apart(replace(one, schedule=schedule)),
    )
    started = None
    if topology.ring_degree > 1:
        key = grouped[0]
        started = start(ring, key, value)
        key, value = now(key), now(value)
        if started is not None and not torch.is_grad_enabled():
            key, value = (x.new_empty((x.shape[0], 0, *x.shape[2:])) for x in (key, value))  # they are in the buffer
        grouped = [key]
    held = [query, value, *grouped]
    own = trades.own if trades is not None else []

    def group(number: int) -> torch.Tensor:
        query, value, key = (now(held[place]) for place in (0, 1, 2 + number))
        if trades is not None:
            query, value = query[:, :, own[number]], value[:, :, own[number]]
        out: torch.Tensor = RingAttention.apply(ring, started, query, key, value)  # type: ignore[no-untyped-call]
        return out

    def attend() -> Callable[[], torch.Tensor]:
        if trades is not None:
            output = trades.outward(group)
            held.clear()
            return output
        out = group(0)
        held.clear()  # their memory is wanted for what follows
        if inner:
            (out,) = HeadsToTokens.apply(Trade((q_heads,), (queries,), topology), out)  # type: ignore[no-untyped-call]
        return lambda: out

    return Begun(attend, trades is not None)
