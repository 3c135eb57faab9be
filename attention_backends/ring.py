"""Ring attention over uneven shards: this rank's queries against the keys of its whole ring.

The wire carries each key and value that a rank needs once, straight from its owner, into one buffer in global order:

    gather: wait for all, attend once. One kernel; no log-sum-exp is needed.
    staged: attend to the own keys while the others travel, then to each piece as it arrives, and merge once at the
            end. Blocks are cut into pieces, so that after the last byte only the last piece is left to attend to:
            T = max(compute, wire + last piece) instead of wire + compute.

Under causal attention a rank needs only the keys before its last query: always a prefix of the global order.
"""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from attention_backends import exchange, kernels
from attention_backends.deferred import now
from attention_backends.exchange import Transfer
from attention_backends.layout import Route
from attention_backends.masks import RowMask
from attention_backends.merge import merge
from attention_backends.topology import Topology


@dataclass(frozen=True, eq=False, kw_only=True)
class Ring(Route):
    """One ring attention: everything but the tensors.

    key_index: for each query head its key head, where these query heads do not fill whole groups; else None.
    apart: whether values and keys travel in messages of their own, so that keys are computed after values have left.
    """

    topology: Topology
    mask: RowMask | None = None
    scale: float | None = None
    operator: str = "cpu_flash"
    key_index: torch.Tensor | None = None
    apart: bool = False

    @property
    def me(self) -> int:
        return self.topology.ring_index


def pack(key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """(S, B, Hkv, Dk + Dv): token-major, so that any run of tokens is one contiguous message."""
    return torch.cat([key, value], dim=-1).transpose(0, 1)


@dataclass(frozen=True)
class Started:
    """Keys and values under way, into buffers in global order.

    buffers: (S, B, Hkv, Dk + Dv) of both, or one of values and one of keys. transfers: of each, in the same order.
    width: Dk.
    """

    buffers: tuple[torch.Tensor, ...]
    transfers: tuple[list[Transfer], ...]
    width: int

    def wait(self) -> None:
        """For all messages: until then the buffers must stay as they are."""
        for transfers in self.transfers:
            exchange.wait(transfers)

    def run(self, begin: int, end: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of this range, (B, S, Hkv, D)."""
        found = [buffer[begin:end].transpose(0, 1).to(dtype) for buffer in self.buffers]
        if len(found) == 2:
            return found[1], found[0]
        return found[0][..., : self.width], found[0][..., self.width :]


def start(ring: Ring, key: torch.Tensor, value: torch.Tensor) -> Started:
    """Buffers of all needed keys and values, the own part in place, the rest under way.

    Where the ring sends them apart, keys that are put off are computed here after the values have left.
    """
    if ring.apart:
        sent = [_send(ring, (now(x).detach(),)) for x in (value, key)]
    else:
        sent = [_send(ring, (now(key).detach(), now(value).detach()))]
    return Started(tuple(buffer for buffer, _ in sent), tuple(under_way for _, under_way in sent), key.shape[-1])


def _send(ring: Ring, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, list[Transfer]]:
    """The buffer of these, side by side along their last dimension."""
    batch, tokens, heads, _ = tensors[0].shape
    own = ring.keys.offsets[ring.me]
    here = max(ring.needed(ring.me), own + tokens)  # the own block is also what is sent from
    buffer = tensors[0].new_empty((here, batch, heads, sum(x.shape[-1] for x in tensors)))
    mine = buffer[own : own + tokens].split([x.shape[-1] for x in tensors], dim=-1)
    for place, x in zip(mine, tensors, strict=True):
        into, rows = exchange.words(place, x.transpose(0, 1))
        into.copy_(rows)
    route = Route(ring.queries, ring.keys, ring.is_causal, ring.schedule)
    return buffer, exchange.start(buffer, *_hops(route, ring.me, ring.topology.ring), ring.topology.group)


@functools.lru_cache(maxsize=1024)  # the same in every layer of a model
def _hops(route: Route, me: int, peers: tuple[int, ...]) -> tuple[exchange.Spans, exchange.Spans]:
    """What this member sends and receives, hop by hop."""
    sends, receives = [], []
    for hop in range(1, len(peers)):  # to the next, from the previous: no rank is everyone's first target
        reader, owner = (me + hop) % len(peers), (me - hop) % len(peers)
        sends.append([(peers[reader], span) for span in route.pieces(me, reader)])
        receives.append([(peers[owner], span) for span in route.pieces(owner, me)])
    return sends, receives


def begin(ring: Ring, key: torch.Tensor, value: torch.Tensor) -> Started | None:
    """Keys and values on their way, before their queries are known; None where no other rank has any."""
    return start(ring, key, value) if ring.topology.ring_degree > 1 else None


def gathered(
    ring: Ring, started: Started | None, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """All keys and values that this rank's queries need, from the first in global order."""
    need = ring.needed(ring.me)
    if started is None:  # a Ulysses row by itself: they are here
        return key[:, :need], value[:, :need]
    started.wait()
    return started.run(0, need, key.dtype)


def attend(
    ring: Ring, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, begin: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention to a run of keys whose first one is at `begin` in the global order."""
    if ring.key_index is not None:
        key, value = key[:, :, ring.key_index], value[:, :, ring.key_index]
    bias, triangle = block_bias(ring, query, begin, begin + key.shape[1])
    return kernels.attend(ring.operator, query, key, value, bias, is_causal=triangle, scale=ring.scale)


def block_bias(ring: Ring, query: torch.Tensor, begin: int, end: int) -> tuple[torch.Tensor | None, bool]:
    """The additive bias of keys begin..end, and whether the block is the plain triangle instead."""
    dtype = kernels.lse_dtype(query.dtype)
    bias = ring.mask.bias(begin, end, dtype) if ring.mask is not None else None
    first = ring.queries.offsets[ring.me]
    if not ring.is_causal or end <= first + 1:  # every query sees every key of this block
        return bias, False
    square = (
        query.device.type == "cpu" or query.shape[1] == end - begin
    )  # CUDA's kernels align other triangles elsewhere
    if bias is None and begin == first and square:
        return None, True
    position = torch.arange(first, first + query.shape[1], device=query.device)[:, None]
    later = torch.arange(begin, end, device=query.device)[None, :] > position
    causal = torch.zeros(later.shape, dtype=dtype, device=query.device).masked_fill_(later, -math.inf)[None, None]
    return (causal if bias is None else bias + causal), False


def ranges(ring: Ring, started: Started) -> Iterator[tuple[int, int]]:
    """Runs of keys in the order in which they can be attended to; returns when all are here."""
    need = ring.needed(ring.me)
    own, own_end = ring.keys.offsets[ring.me], min(ring.keys.offsets[ring.me + 1], need)
    if own < own_end:
        first = ring.queries.offsets[ring.me]
        if ring.is_causal and own < first < own_end:  # the triangle on its own needs no bias
            yield own, first
            own = first
        yield own, own_end
    for each in zip(*started.transfers, strict=True):  # as they were posted, which is about as they arrive
        if each[0].span is not None:
            for transfer in each:
                transfer.wait()
            yield each[0].span


def forward(
    ring: Ring, started: Started | None, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """out (B, Sq, H, Dv) over the keys of the whole ring, and its LSE."""
    if ring.schedule == "gather" or started is None:
        return attend(ring, query, *gathered(ring, started, key, value), 0)
    wide = query
    if ring.mask is not None and ring.mask.drowns_sums(ring.is_causal):
        return attend(ring, query, *gathered(ring, started, key, value), 0)
    if query.device.type == "cpu":
        # Partial outputs rounded to half precision would add their errors to one kernel's own (1.6 times as much).
        # A CPU without matrix units for it computes in float32 as fast or faster; a GPU's kernels give what they take.
        wide = query.to(kernels.lse_dtype(query.dtype))
    partials = []
    for begin, end in ranges(ring, started):
        partials.append(attend(ring, wide, *started.run(begin, end, wide.dtype), begin))
    started.wait()  # the sends: the buffers must stay as they are until they are out
    if not partials:
        return attend(ring, query, key[:, :0], value[:, :0], 0)
    out, lse = merge([out for out, _ in partials], [lse for _, lse in partials])
    return out.to(query.dtype), lse


def backward(
    ring: Ring,
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients. Keys and values travel again (only the own were kept), their gradients go straight to the owner."""
    again = replace(ring, schedule="gather", apart=False)
    k, v = gathered(again, begin(again, key, value), key, value)
    need = k.shape[1]
    if ring.key_index is not None:
        k, v = k[:, :, ring.key_index], v[:, :, ring.key_index]
    bias, triangle = block_bias(ring, query, 0, need)
    # torch's own backward divides by exp(lse), and the definition by the sum itself.
    operator = "math" if ring.mask is not None and ring.mask.drowns_sums(ring.is_causal) else ring.operator
    d_query, d_key, d_value = kernels.attend_backward(
        operator, grad, query, k, v, out, lse, bias, is_causal=triangle, scale=ring.scale
    )
    packed = pack(d_key, d_value)
    if ring.key_index is not None:
        shape = (need, key.shape[0], key.shape[2], packed.shape[3])
        whole = packed.new_zeros(shape, dtype=kernels.lse_dtype(packed.dtype))
        packed = whole.index_add_(2, ring.key_index, packed.to(whole.dtype)).to(packed.dtype)
    return d_query, *_to_owner(ring, packed.contiguous(), key.shape[-1])


def _to_owner(ring: Ring, grads: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Send each member the gradients of its keys; sum what the others have for mine, in float32."""
    offsets, peers, members = ring.keys.offsets, ring.topology.ring, range(ring.topology.ring_degree)

    def shared(owner: int, reader: int) -> int:
        return max(0, min(offsets[owner + 1], ring.needed(reader)) - offsets[owner])

    others = [member for member in members if member != ring.me]
    sends = [(peers[m], grads[offsets[m] : offsets[m] + shared(m, ring.me)]) for m in others]
    parts = {m: grads.new_empty((shared(ring.me, m), *grads.shape[1:])) for m in others}
    exchange.wait(exchange.post(sends, [(peers[m], part) for m, part in parts.items()], ring.topology.group))
    own = offsets[ring.me]
    parts[ring.me] = grads[own : own + shared(ring.me, ring.me)]
    total = grads.new_zeros((ring.keys.lengths[ring.me], *grads.shape[1:]), dtype=kernels.lse_dtype(grads.dtype))
    for member in members:  # in rank order, so that the sum is the same however messages arrive
        total[: len(parts[member])] += parts[member]
    both = total.to(grads.dtype).transpose(0, 1)
    return both[..., :width], both[..., width:]


class RingAttention(torch.autograd.Function):
    """`forward` above with its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        ring: Ring,
        started: Started | None,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
    ) -> torch.Tensor:
        out, lse = forward(ring, started, query, key, value)
        ctx.ring = ring
        ctx.save_for_backward(query, key, value, out, lse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        return None, None, *backward(ctx.ring, grads[0], query, key, value, out, lse)
