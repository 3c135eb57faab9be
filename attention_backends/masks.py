"""Attention masks over sharded keys: a mask held with the keys travels like them, a global one is cut by offset.

What a mask is follows from its shape, and never from lengths that happen to be equal: where a rank's own lengths leave
it open (one query: a row for it, or a row for all?), ranks that can tell tell the others.
"""

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass

import torch

from attention_backends import exchange
from attention_backends.layout import Layout
from attention_backends.topology import Topology

# A row's largest bias beyond this drowns what is added to it: float32 keeps a sum near 32 to within 2e-6.
DROWNS = 32.0


def key_row(mask: torch.Tensor) -> torch.Tensor:
    """Of a mask (B, H, Sq, Skv) whose rows agree about the keys, padded queries apart, the one row (B, H, 1, Skv)."""
    if mask.ndim != 4 or mask.shape[2] == 1:
        return mask
    return mask.any(dim=2, keepdim=True) if mask.dtype == torch.bool else mask.amax(dim=2, keepdim=True)


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

    def drowns_sums(self, is_causal: bool) -> bool:
        """Whether some row's log-sum-exp can't hold what its parts weigh against each other.

        A row hidden by a large finite number (finfo.min, -10000) has an LSE of about that number, and the logarithm of
        its sum is lost beside it: partial outputs of such a row can't be merged, so it must be attended to at once.
        """
        if self.tensor.dtype == torch.bool or not self.tensor.numel():
            return False
        # Under causal attention a row sees an unknown part of its keys, so any large number counts.
        seen = self.tensor if is_causal else self.tensor.amax(-1)
        return bool(((seen.abs() > DROWNS) & seen.isfinite()).any())


@dataclass(frozen=True)
class Nature:
    """What all ranks must take a mask for; None where one rank can't tell.

    Args:
        by_batch: of two dimensions, (B, keys) and not (queries, keys). per_query: it has a row per query.
        whole: it covers the keys of all ranks.
    """

    by_batch: bool | None
    per_query: bool | None
    whole: bool | None


def nature(mask: torch.Tensor, batch: int, queries: int, held: int, total: int) -> Nature:
    """What this rank can tell of a mask: (B, S), (Sq, S) or (B|1, H|1, Sq|1, S) for S held or total keys.

    Raises:
        ValueError: it is none of them.
    """
    rows = mask.shape[0] if mask.ndim == 2 else mask.shape[2] if mask.ndim == 4 else -1
    allowed = {1, queries, batch} if mask.ndim == 2 else {1, queries}
    if rows not in allowed or (mask.ndim == 4 and mask.shape[0] not in (1, batch)):
        raise ValueError(
            f"attention mask of shape {tuple(mask.shape)} for batch {batch} and {queries} queries here: a mask is "
            f"(B, keys), (queries, keys) or (B or 1, heads or 1, queries or 1, keys). Nearest: ({batch}, {held})."
        )
    if mask.shape[-1] not in (held, total):
        raise ValueError(
            f"attention mask over {mask.shape[-1]} keys: this rank holds {held} keys and all ranks together {total}. "
            f"Give a mask over {held} (it travels with the keys) or {total} (it is cut by offset)."
        )
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise ValueError(f"attention mask of dtype {mask.dtype}: a mask is bool (True: attend) or float (added).")
    whole = None if held == total else mask.shape[-1] == total
    if mask.ndim == 2 and batch > 1 and rows == batch:
        return Nature(None, None, whole) if queries == batch else Nature(True, False, whole)
    return Nature(False, None if rows == queries == 1 else rows != 1, whole)


def agree(own: Nature, topology: Topology, device: torch.device) -> Nature:
    """What the ranks together know. Raises ValueError, alike on every rank, where they contradict each other."""
    numbers = [-1 if known is None else int(known) for known in astuple(own)]
    everyone = exchange.exchange_lengths(numbers, topology.group, device)
    by_batch, per_query, whole = (_one(told) for told in zip(*everyone, strict=True))
    return Nature(by_batch, per_query, whole)


def _one(told: Iterable[int]) -> bool | None:
    known = set(told) - {-1}
    if len(known) > 1:
        raise ValueError("ranks were given attention masks of different kinds: give every rank the same, whole inputs.")
    return bool(known.pop()) if known else None


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
    shape, found = tuple(mask.shape), nature(mask, batch, queries.lengths[rank], held, total)
    if topology.world_size > 1 and _asks(mask, found, queries, keys, topology, batch):
        found = agree(found, topology, mask.device)
    if mask.ndim == 2:
        if found.by_batch is None:
            raise ValueError(
                f"attention mask of shape {shape} for a batch of {batch} and {batch} queries on each rank: it could be "
                f"(B, keys) or (queries, keys). Give it four dimensions, mask[:, None, None] or mask[None, None]."
            )
        mask = mask[:, None, None, :] if found.by_batch else mask[None, None]
    whole = found.whole if found.whole is not None else mask.shape[-1] == total
    # With one query on every rank, a row for all of them is a row for this one too.
    per_query = found.per_query if found.per_query is not None else whole
    per_head = mask.shape[1] > 1
    if whole:
        if not per_query or topology.ulysses_degree == 1:
            return RowMask(mask[:, slice(*heads[topology.ulysses_index])] if per_head else mask)
        rows = mask.permute(2, 0, 1, 3)  # a row of each query first, so that what moves is contiguous
        lengths = [queries.lengths[peer] for peer in topology.row]
        return RowMask(_gather(rows, lengths, topology.row, topology, cut_heads=heads if per_head else None, dim=2))
    if per_query:
        raise ValueError(
            f"attention mask of shape {shape} has a row per query but covers only the {held} keys held here: queries "
            f"on other ranks have no row for these keys. Give it over all {total} keys."
        )
    ranks = tuple(range(topology.world_size))
    return RowMask(
        _gather(mask.permute(3, 0, 1, 2), keys.lengths, ranks, topology, cut_heads=heads if per_head else None, dim=3)
    )


def _asks(mask: torch.Tensor, found: Nature, queries: Layout, keys: Layout, topology: Topology, batch: int) -> bool:
    """Whether some rank can't tell what matters: every rank answers this alike, from the layouts."""
    counts = set(queries.lengths)
    if max(keys.lengths) == keys.total:  # all keys are on one rank, where "held" and "all" look alike
        return True
    if mask.ndim == 2 and batch > 1 and batch in counts:
        return True
    return bool(found.whole) and topology.ulysses_degree > 1 and 1 in counts and len(counts) > 1


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
