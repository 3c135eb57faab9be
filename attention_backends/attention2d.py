"""Attention in two dimensions: ranks in a grid, queries gathered along a row, keys and values along a column.

With P ranks in R rows of U, a rank attends from the U P-ths of the queries that its row holds to the R P-ths of the
keys that its column holds. What it makes is a part of its row's output; the parts go back to the owners of the queries,
who merge them by their log-sum-exp:

    sent = (U - 1) queries + (R - 1) keys and values + (U - 1) partial outputs, of 1/P of the sequence each
         = 2 (R + U - 2) / P of it, where a ring sends 2 (P - 1) / P

Any lengths and any number of heads, for no heads are traded. A row is U neighbours and a column every U-th rank: what
topology.py calls a Ulysses row and a ring. It is how TensorRT-LLM scales a video's attention to dozens of GPUs.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from attention_backends import exchange, kernels
from attention_backends.kernels import lse_dtype
from attention_backends.layout import Layout
from attention_backends.masks import RowMask, gather_mask
from attention_backends.merge import merge
from attention_backends.topology import Topology
from attention_backends.workload import Speeds


@dataclass(frozen=True, eq=False, kw_only=True)
class Grid:
    """One attention: everything but the tensors. queries, keys: layouts over all ranks."""

    topology: Topology
    queries: Layout
    keys: Layout
    is_causal: bool = False
    mask: RowMask | None = None
    scale: float | None = None
    operator: str = "cpu_flash"

    @cached_property
    def rows(self) -> Layout:
        """Queries of each member of this rank's row."""
        return Layout(tuple(self.queries.lengths[peer] for peer in self.topology.row))

    @cached_property
    def columns(self) -> Layout:
        """Keys of each member of this rank's column."""
        return Layout(tuple(self.keys.lengths[peer] for peer in self.topology.ring))

    @property
    def span(self) -> tuple[int, int]:
        """The part of its row's queries that is this rank's."""
        at = self.topology.ulysses_index
        return self.rows.offsets[at], self.rows.offsets[at + 1]

    def bias(self, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The additive bias of the row's queries to the column's keys, and to all keys.

        The second is None unless rows of it are hidden by a number so large that no log-sum-exp holds their sums.
        """
        drowns = self.mask is not None and self.mask.drowns_sums(self.is_causal)
        if self.mask is None and not self.is_causal:
            return None, None
        offsets, place = self.keys.offsets, torch.arange(self.keys.total, device=device)
        mine = torch.cat([place[offsets[peer] : offsets[peer + 1]] for peer in self.topology.ring])
        chosen = place if drowns else mine
        bias = self.mask.bias(0, self.keys.total, dtype)[..., chosen] if self.mask is not None else None
        if self.is_causal:
            first = self.queries.offsets[self.topology.row[0]]
            later = chosen > torch.arange(first, first + self.rows.total, device=device)[:, None]
            triangle = torch.zeros(later.shape, dtype=dtype, device=device).masked_fill_(later, -math.inf)[None, None]
            bias = triangle if bias is None else bias + triangle
        assert bias is not None
        return (bias[..., mine], bias) if drowns else (bias, None)

    def seen(self, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The bias, and what each row's log-sum-exp is counted from: its largest bias, where sums would drown in it.

        All members of a row know the whole mask of its queries, so they count from the same numbers.
        """
        bias, everywhere = self.bias(device, dtype)
        if everywhere is None or not everywhere.numel():
            return bias, None
        top = everywhere.amax(-1)
        return bias, top.masked_fill(top == -math.inf, 0.0)


def _token_major(x: torch.Tensor, whole: Layout, at: int) -> torch.Tensor:
    """(S, B, H, D) of all members of a row or column, the own part in place."""
    buffer = x.new_empty((whole.total, x.shape[0], *x.shape[2:]))
    into, rows = exchange.words(buffer[whole.offsets[at] : whole.offsets[at + 1]], x.transpose(0, 1))
    into.copy_(rows)
    return buffer


def _along(
    buffer: torch.Tensor, whole: Layout, at: int, peers: tuple[int, ...]
) -> tuple[list[tuple[int, torch.Tensor]], list[tuple[int, torch.Tensor]]]:
    """What is sent and received to fill a buffer of `_token_major` from all members."""
    parts = torch.split(buffer, list(whole.lengths))
    others = [(peer, part) for member, (peer, part) in enumerate(zip(peers, parts, strict=True)) if member != at]
    return [(peer, parts[at]) for peer, _ in others], others


def _gather(
    grid: Grid, by_row: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`by_row` of all members of the row, keys and values of all of the column, (B, S, H, D) each, in one exchange."""
    topology = grid.topology
    rows = _token_major(by_row, grid.rows, topology.ulysses_index)
    columns = _token_major(torch.cat([key, value], dim=-1), grid.columns, topology.ring_index)
    row_sends, row_receives = _along(rows, grid.rows, topology.ulysses_index, topology.row)
    sends, receives = _along(columns, grid.columns, topology.ring_index, topology.ring)
    exchange.wait(exchange.post(row_sends + sends, row_receives + receives, topology.group))
    keys, width = columns.transpose(0, 1), key.shape[-1]
    return rows.transpose(0, 1), keys[..., :width], keys[..., width:]


def _give_back(
    x: torch.Tensor, whole: Layout, at: int, peers: tuple[int, ...], topology: Topology
) -> list[torch.Tensor]:
    """Every member's version of this rank's tokens, in their order: each is given its own part of a token-major x."""
    parts = [part.contiguous() for part in torch.split(x, list(whole.lengths))]
    mine = [parts[at] if member == at else torch.empty_like(parts[at]) for member in range(len(peers))]
    others = [member for member in range(len(peers)) if member != at]
    sends = [(peers[member], parts[member]) for member in others]
    exchange.wait(exchange.post(sends, [(peers[member], mine[member]) for member in others], topology.group))
    return mine


def _with_lse(out: torch.Tensor, lse: torch.Tensor) -> torch.Tensor:
    """(S, B, H, D + n): partial outputs, and each one's log-sum-exp as n elements of their dtype more."""
    more = lse.permute(2, 0, 1).unsqueeze(-1).contiguous().view(out.dtype)
    return torch.cat([out.transpose(0, 1), more], dim=-1)


def _without_lse(packed: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The inverse of `_with_lse`."""
    lse = packed[..., width:].contiguous().view(lse_dtype(packed.dtype)).squeeze(-1)
    return packed[..., :width].transpose(0, 1), lse.permute(1, 2, 0)


def forward(
    grid: Grid, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """out (B, Sq, H, Dv) over all keys for this rank's queries, and its LSE, above what `Grid.seen` counts it from."""
    dtype, width, topology = query.dtype, value.shape[-1], grid.topology
    q, k, v = _gather(grid, query, key, value)
    if q.device.type == "cpu":  # as in a staged ring: what is merged is rounded once less
        q, k, v = (x.to(lse_dtype(dtype)) for x in (q, k, v))
    bias, above = grid.seen(q.device, lse_dtype(dtype))
    out, lse = kernels.attend(grid.operator, q, k, v, bias, scale=grid.scale, above=above)
    del q, k, v
    packed = _with_lse(out.to(dtype), lse)
    del out
    parts = _give_back(packed, grid.rows, topology.ulysses_index, topology.row, topology)
    outs, lses = zip(*(_without_lse(part, width) for part in parts), strict=True)
    return merge(outs, lses)


def backward(
    grid: Grid,
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients. Everything is gathered again (only the own was kept), with the outputs and their gradients."""
    topology, widths = grid.topology, [query.shape[-1], grad.shape[-1], out.shape[-1]]
    by_row = torch.cat([query, grad, _with_lse(out, lse).transpose(0, 1)], dim=-1)
    rows, k, v = _gather(grid, by_row, key, value)
    q, grads, rest = torch.split(rows, [*widths[:2], rows.shape[-1] - sum(widths[:2])], dim=-1)
    outs, lses = _without_lse(rest.transpose(0, 1), widths[2])
    bias, above = grid.seen(q.device, lse_dtype(q.dtype))
    d_query, d_key, d_value = kernels.attend_backward(
        grid.operator, grads, q, k, v, outs, lses, bias, scale=grid.scale, part=True, above=above
    )
    by_column = torch.cat([d_key, d_value], dim=-1).transpose(0, 1)
    sums = (
        (d_query.transpose(0, 1), grid.rows, topology.ulysses_index, topology.row),
        (by_column, grid.columns, topology.ring_index, topology.ring),
    )
    mine_q, mine_kv = (_sum(_give_back(*given, topology), query.dtype) for given in sums)
    return mine_q, mine_kv[..., : widths[0]], mine_kv[..., widths[0] :]


def _sum(parts: list[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """(B, S, H, D): in the members' order, so that it is the same however messages arrive, and in float32."""
    total = parts[0].to(lse_dtype(dtype), copy=True)
    for part in parts[1:]:
        total += part
    return total.to(dtype).transpose(0, 1)


class GridAttention(torch.autograd.Function):
    """`forward` above with its gradient."""

    @staticmethod
    def forward(ctx: Any, grid: Grid, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        out, lse = forward(grid, query, key, value)
        ctx.grid = grid
        ctx.save_for_backward(query, key, value, out, lse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        return None, *backward(ctx.grid, grads[0], query, key, value, out, lse)


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
    speeds: Speeds | None = None,
) -> torch.Tensor:
    """Exact attention of the whole sequence; each rank gives and gets its own tokens, (B, S_local, H, D).

    schedule, speeds: have no say here, there is one schedule.
    """
    queries.check(topology.rank, query.shape[1], "queries")
    keys.check(topology.rank, key.shape[1], "keys")
    if mask is not None and mask.requires_grad:
        raise ValueError(
            "the attention mask requires a gradient, and a mask's gradient is not computed. Pass mask.detach()."
        )
    heads = ((0, query.shape[2]),) * topology.ulysses_degree
    row_mask = gather_mask(mask, queries, keys, heads, topology, query.shape[0]) if mask is not None else None
    operator = kernels.choose(kernel, query, value, mask=mask is not None or is_causal, lse=True)
    grid = Grid(
        topology=topology, queries=queries, keys=keys, is_causal=is_causal, mask=row_mask, scale=scale,
        operator=operator,
    )  # fmt: skip
    out: torch.Tensor = GridAttention.apply(grid, query, key, value)  # type: ignore[no-untyped-call]
    return out
