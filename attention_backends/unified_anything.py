"""Uneven Ulysses inside, uneven ring outside: any ring_degree x ulysses_degree, any lengths, any number of heads.

Ulysses (https://arxiv.org/abs/2309.14509) trades tokens for heads within a row of neighbouring ranks; the ring then
runs over rows, each rank with its own heads (https://arxiv.org/abs/2405.07719). With one row it is Ulysses alone, with
rows of one rank it is the ring alone.
"""

from collections.abc import Sequence

import torch

from attention_backends import exchange
from attention_backends.layout import Layout, key_heads, split_heads
from attention_backends.masks import gather_mask
from attention_backends.ring_anything import ring_attention
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
    parts: list[dict[int, torch.Tensor]] = []  # per tensor: row member -> (S, B, h, D)
    sends, receives, flats = [], [], {}
    for member, peer in enumerate(row):
        cuts = [x[:, :, slice(*ranges[member])].transpose(0, 1) for x, ranges in zip(tensors, heads, strict=True)]
        if member == mine:
            own = cuts
            continue
        sends.append((peer, torch.cat([cut.reshape(-1) for cut in cuts])))
        shapes = _shapes(tensors, heads, layouts, mine, peer)
        flats[member] = (tensors[0].new_empty(sum(map(_numel, shapes))), shapes)
        receives.append((peer, flats[member][0]))
    exchange.wait(exchange.post(sends, receives, topology.group))
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
        sends.append((peer, torch.cat([split[member].reshape(-1) for split in splits])))
        shapes = _shapes(tensors, heads, layouts, member, rank)
        flats[member] = (tensors[0].new_empty(sum(map(_numel, shapes))), shapes)
        receives.append((peer, flats[member][0]))
    exchange.wait(exchange.post(sends, receives, topology.group))
    arrived = {member: _unflatten(flat, shapes) for member, (flat, shapes) in flats.items()}
    arrived[mine] = [split[mine] for split in splits]
    results = []
    for i, (x, ranges, layout) in enumerate(zip(tensors, heads, layouts, strict=True)):
        whole = x.new_zeros((x.shape[0], layout.lengths[rank], max(end for _, end in ranges), x.shape[-1]))
        for member in range(len(row)):
            whole[:, :, slice(*ranges[member])] += arrived[member][i].transpose(0, 1)
        results.append(whole)
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
) -> torch.Tensor:
    """Exact attention of the whole sequence; each rank gives and gets its own tokens, (B, S_local, H, D)."""
    queries.check(topology.rank, query.shape[1], "queries")
    keys.check(topology.rank, key.shape[1], "keys")
    group_size = query.shape[2] // key.shape[2]
    q_heads = split_heads(query.shape[2], topology.ulysses_degree)
    k_heads = tuple(key_heads(heads, group_size) for heads in q_heads)
    row_mask = gather_mask(mask, queries, keys, q_heads, topology, query.shape[0]) if mask is not None else None
    inner = topology.ulysses_degree > 1
    if inner:
        query, key, value = tokens_to_heads(
            [query, key, value], [q_heads, k_heads, k_heads], [queries, keys, keys], topology
        )
        begin, end = q_heads[topology.ulysses_index]
        first = k_heads[topology.ulysses_index][0]
        if group_size > 1 and (begin % group_size or (end - begin) % group_size):
            # These query heads do not fill whole groups: give each query head its own key head.
            index = torch.arange(begin, end, device=key.device) // group_size - first
            key, value = key[:, :, index], value[:, :, index]
    out = ring_attention(
        query,
        key,
        value,
        row_mask,
        queries.rows(topology.ulysses_degree),
        keys.rows(topology.ulysses_degree),
        topology,
        is_causal=is_causal,
        scale=scale,
        kernel=kernel,
    )
    if inner:
        (out,) = heads_to_tokens([out], [q_heads], [queries], topology)
    return out
