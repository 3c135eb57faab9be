"""Uneven Ulysses inside, uneven ring outside: any ring_degree x ulysses_degree, any lengths, any number of heads.

Ulysses (https://arxiv.org/abs/2309.14509) trades tokens for heads within a row of neighbouring ranks; the ring then
runs over rows, each rank with its own heads (https://arxiv.org/abs/2405.07719). With one row it is Ulysses alone, with
rows of one rank it is the ring alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from attention_backends import exchange
from attention_backends.kernels import choose, lse_dtype
from attention_backends.layout import Layout, key_heads, split_heads
from attention_backends.masks import gather_mask
from attention_backends.ring_anything import Ring, RingAttention
from attention_backends.schedule import auto
from attention_backends.topology import Topology

Ranges = tuple[tuple[int, int], ...]


def tokens_to_heads(
    tensors: Sequence[torch.Tensor], heads: Sequence[Ranges], layouts: Sequence[Layout], topology: Topology
) -> list[torch.Tensor]:
    """(B, S_local, H, D) each -> (B, S_row, H_mine, D) each: all of the row's tokens, this member's heads.

    heads[i]: head range of each row member in tensors[i]; ranges may overlap (key heads shared by query heads of
    several members). layouts[i]: tokens of every rank. One message per peer carries all tensors.
    """
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
    exchange.wait(exchange.post(sends, receives, topology.group))
    del sends  # their memory is wanted for what follows
    arrived = {member: _unflatten(flat, shapes) for member, (flat, shapes) in flats.items()}
    arrived[mine] = own
    parts = [{member: arrived[member][i] for member in range(len(row))} for i in range(len(tensors))]
    return [torch.cat([part[member] for member in range(len(row))]).transpose(0, 1) for part in parts]


def heads_to_tokens(
    tensors: Sequence[torch.Tensor], heads: Sequence[Ranges], layouts: Sequence[Layout], topology: Topology
) -> list[torch.Tensor]:
    """The adjoint of `tokens_to_heads`: (B, S_row, H_mine, D) each -> (B, S_local, H, D) each, overlaps summed."""
    row, mine, rank = topology.row, topology.ulysses_index, topology.rank
    splits = [
        x.transpose(0, 1).split([layout.lengths[peer] for peer in row])
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
    exchange.wait(exchange.post(sends, receives, topology.group))
    del sends
    arrived = {member: _unflatten(flat, shapes) for member, (flat, shapes) in flats.items()}
    arrived[mine] = [split[mine] for split in splits]
    results = []
    for i, (x, ranges, layout) in enumerate(zip(tensors, heads, layouts, strict=True)):
        shares = [arrived[member][i].transpose(0, 1) for member in range(len(row))]
        if sum(end - begin for begin, end in ranges) == max(end for _, end in ranges):
            results.append(torch.cat(shares, dim=2))
            continue
        shape = (x.shape[0], layout.lengths[rank], max(end for _, end in ranges), x.shape[-1])
        whole = x.new_zeros(shape, dtype=lse_dtype(x.dtype))  # gradients of shared key heads, summed in float32
        for share, (begin, end) in zip(shares, ranges, strict=True):
            whole[:, :, begin:end] += share
        results.append(whole.to(x.dtype))
    return results


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


def _flat(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """One message of all parts, each copied once."""
    flat = parts[0].new_empty(sum(part.numel() for part in parts))
    for place, part in zip(_unflatten(flat, [part.shape for part in parts]), parts, strict=True):
        place.copy_(part)
    return flat


def _unflatten(flat: torch.Tensor, shapes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    parts = flat.split([_numel(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def context_parallel_attention(
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
) -> torch.Tensor:
    """Exact attention of the whole sequence; each rank gives and gets its own tokens, (B, S_local, H, D)."""
    queries.check(topology.rank, query.shape[1], "queries")
    keys.check(topology.rank, key.shape[1], "keys")
    if mask is not None and mask.requires_grad:
        raise ValueError(
            "the attention mask requires a gradient: give mask.detach(), a mask's gradient is not computed."
        )
    group_size = query.shape[2] // key.shape[2]
    q_heads = split_heads(query.shape[2], topology.ulysses_degree)
    k_heads = tuple(key_heads(heads, group_size) for heads in q_heads)
    row_mask = gather_mask(mask, queries, keys, q_heads, topology, query.shape[0]) if mask is not None else None
    inner = topology.ulysses_degree > 1
    if inner:
        ranges, layouts = (q_heads, k_heads, k_heads), (queries, keys, keys)
        trade = tokens_to_heads, heads_to_tokens, ranges, layouts, topology
        query, key, value = Trade.apply(*trade, query, key, value)
    begin, end = q_heads[topology.ulysses_index]
    index = None
    if group_size > 1 and (begin % group_size or (end - begin) % group_size):
        # These query heads do not fill whole groups: each is told its key head.
        index = torch.arange(begin, end, device=key.device) // group_size - k_heads[topology.ulysses_index][0]
    operator = choose(kernel, query, value, mask=mask is not None or is_causal, lse=schedule == "staged")
    ring = Ring(
        queries.rows(topology.ulysses_degree),
        keys.rows(topology.ulysses_degree),
        is_causal,
        topology=topology,
        mask=row_mask,
        scale=scale,
        operator=operator,
        key_index=index,
    )
    ring = replace(ring, schedule=schedule if schedule != "auto" else auto(ring, query, value))
    out = RingAttention.apply(ring, query, key, value)
    if inner:
        del query, key, value
        (out,) = Trade.apply(heads_to_tokens, tokens_to_heads, (q_heads,), (queries,), topology, out)
    return out


class Trade(torch.autograd.Function):
    """tokens_to_heads or heads_to_tokens: the gradient of each is the other, its adjoint."""

    @staticmethod
    def forward(ctx: Any, there: Any, back: Any, heads: Any, layouts: Any, topology: Topology, *tensors: Any) -> Any:
        ctx.back, ctx.rest = back, (heads, layouts, topology)
        return tuple(there(tensors, heads, layouts, topology))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        return None, None, None, None, None, *ctx.back(grads, *ctx.rest)
