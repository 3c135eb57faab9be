"""Attention masks over sharded keys: a mask held with the keys travels like them, a global one is cut by offset."""

import math
from dataclasses import dataclass

import torch

from attention_backends import exchange
from attention_backends.layout import Layout
from attention_backends.topology import Topology


def as_4d(mask: torch.Tensor, batch: int, queries: int, keys: tuple[int, int]) -> torch.Tensor:
    """(B, Skv), (Sq, Skv) or (B|1, H|1, Sq|1, Skv) as four dimensions; `keys` are the local and the global count.

    As in diffusers a 2-D mask with a row per batch entry is a key mask, else a row per query.
    """
    if mask.ndim == 2 and mask.shape[0] == batch:
        mask = mask[:, None, None, :]
    elif mask.ndim == 2 and mask.shape[0] in (1, queries):
        mask = mask[None, None]
    if mask.ndim != 4 or mask.shape[0] not in (1, batch) or mask.shape[2] not in (1, queries):
        raise ValueError(
            f"attention mask of shape {tuple(mask.shape)} for batch {batch}, {queries} queries here: a mask is "
            f"(B, keys), (queries, keys) or (B or 1, heads or 1, queries or 1, keys). Nearest: ({batch}, {keys[0]})."
        )
    if mask.shape[-1] not in keys:
        raise ValueError(
            f"attention mask over {mask.shape[-1]} keys: this rank holds {keys[0]} keys and all ranks together "
            f"{keys[1]}. Give a mask over {keys[0]} (it travels with the keys) or {keys[1]} (it is cut by offset)."
        )
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise ValueError(f"attention mask of dtype {mask.dtype}: a mask is bool (True: attend) or float (added).")
    return mask


@dataclass(frozen=True)
class RowMask:
    """The mask over all keys for the queries of this rank's Ulysses row.

    tensor: (B|1, H|1, Sq_row|1, S_total), bool or float.
    """

    tensor: torch.Tensor

    def bias(self, begin: int, end: int, dtype: torch.dtype) -> torch.Tensor:
        """Additive bias of keys begin..end."""
        mask = self.tensor[..., begin:end]
        if mask.dtype == torch.bool:
            return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -math.inf)
        return mask.to(dtype)


def gather_mask(
    mask: torch.Tensor,
    queries: Layout,
    keys: Layout,
    heads: tuple[tuple[int, int], ...],
    topology: Topology,
    batch: int,
) -> RowMask:
    """Bring together the mask that this rank's queries and heads need.

    heads: query-head range of each member of a Ulysses row. A mask over the local keys needs one row (the other ranks'
    queries are not here), and goes to every rank; a global one with a row per query goes to the Ulysses row only.
    """
    rank = topology.rank
    held, total = keys.lengths[rank], keys.total
    mask = as_4d(mask, batch, queries.lengths[rank], (held, total))
    per_head = mask.shape[1] > 1
    mine = topology.ulysses_index

    def cut(x: torch.Tensor, member: int) -> torch.Tensor:
        return x[:, slice(*heads[member])] if per_head else x

    # Where one rank holds every key, "local" and "global" look alike there; all ranks then treat one row as local.
    alone = max(keys.lengths) == total
    per_query = mask.shape[2] != 1
    if 1 in queries.lengths and (alone or topology.ulysses_degree > 1):
        # A rank with one query can't tell a row for that query from a row for all: the others can.
        everyone = exchange.exchange_lengths([mask.shape[2]], topology.group, mask.device)
        per_query = any(rows != 1 for (rows,) in everyone)
    if mask.shape[-1] == total and (per_query or not alone):
        if not per_query or topology.ulysses_degree == 1:
            return RowMask(cut(mask, mine))
        rows = mask.permute(2, 0, 1, 3)  # a row of each query first, so that what moves is contiguous
        lengths = [queries.lengths[peer] for peer in topology.row]
        return RowMask(_gather(rows, lengths, topology.row, topology, cut_heads=heads if per_head else None, dim=2))
    if mask.shape[-1] == total and held != total:
        mask = mask[..., keys.offsets[rank] : keys.offsets[rank + 1]]
    if per_query:
        raise ValueError(
            f"attention mask of shape {tuple(mask.shape)} has a row per query but covers only the {held} keys held "
            f"here: queries on other ranks have no row for these keys. Give it over all {total} keys."
        )
    ranks = tuple(range(topology.world_size))
    return RowMask(
        _gather(mask.permute(3, 0, 1, 2), keys.lengths, ranks, topology, cut_heads=heads if per_head else None, dim=3)
    )


def _gather(
    part: torch.Tensor,
    lengths: tuple[int, ...] | list[int],
    ranks: tuple[int, ...],
    topology: Topology,
    cut_heads: tuple[tuple[int, int], ...] | None,
    dim: int,
) -> torch.Tensor:
    """Concatenate `part` (gathered dimension first, then B, H, another) over `ranks`; it ends as dimension `dim`."""

    def cut(member: int) -> torch.Tensor:
        return (part[:, :, slice(*cut_heads[member])] if cut_heads else part).contiguous()

    mine = cut(topology.ulysses_index)
    whole = mine.new_empty((sum(lengths), *mine.shape[1:]))
    parts = dict(zip(ranks, torch.split(whole, list(lengths)), strict=True))
    parts[topology.rank].copy_(mine)
    peers = [peer for peer in ranks if peer != topology.rank]
    # A bool is a byte on the wire.
    sends = [(peer, cut(peer % topology.ulysses_degree).view(_wire(part.dtype))) for peer in peers]
    receives = [(peer, parts[peer].view(_wire(part.dtype))) for peer in peers]
    exchange.wait(exchange.post(sends, receives, topology.group))
    order = (1, 2, 0, 3) if dim == 2 else (1, 2, 3, 0)
    return whole.permute(order)


def _wire(dtype: torch.dtype) -> torch.dtype:
    return torch.uint8 if dtype == torch.bool else dtype
