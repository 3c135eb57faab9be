"""What cost.py tells of a ring and Ulysses, for attention2d.py: plain arithmetic, no torch.

wire(rank)    = bytes it receives / bandwidth + messages * latency, before the attention and after it
compute(rank) = 4 B (its row's queries) (its column's keys) H D / speed
seconds       = max over ranks of  wire + compute + merge
"""

from collections.abc import Sequence

from attention_backends.cost import MERGE_PASSES
from attention_backends.workload import Attention, Moved, Shape, Speeds


class _Rank:
    """One place in the grid: tokens of its row and column, and its share of them."""

    def __init__(self, one: Attention, rank: int) -> None:
        row, column = divmod(rank, one.ulysses_degree)
        self.members = range(row * one.ulysses_degree, (row + 1) * one.ulysses_degree)
        self.queries, self.keys = one.queries.lengths[rank], one.keys.lengths[rank]
        self.row_queries = sum(one.queries.lengths[peer] for peer in self.members)
        self.column_keys = sum(one.keys.lengths[column :: one.ulysses_degree])


def _sizes(shape: Shape) -> tuple[int, int, int]:
    """Bytes for one token: of a query, of a key and value, and of a partial output with its log-sum-exp."""
    lse = max(shape.element_size, 4)
    query = shape.heads * shape.head_dim * shape.element_size
    keys = shape.kv_heads * (shape.head_dim + shape.v_dim) * shape.element_size
    part = shape.heads * (shape.v_dim * shape.element_size + lse)
    return shape.batch * query, shape.batch * keys, shape.batch * part


def sent(one: Attention) -> list[Moved]:
    """As cost.sent, for ring_degree rows of ulysses_degree ranks. schedule, is_causal and shares change nothing."""
    query, key, part = _sizes(one.shape)
    found = []
    for rank in range(one.ranks):
        here = _Rank(one, rank)
        sizes = [here.queries * query] * (one.ulysses_degree - 1) + [here.keys * key] * (one.ring_degree - 1)
        sizes += [one.queries.lengths[peer] * part for peer in here.members if peer != rank]
        if one.key_mask:
            heads = one.shape.heads if one.mask_per_head else 1
            sizes += [here.keys * one.key_mask * heads] * (one.ranks - 1)
        sizes = [size for size in sizes if size]
        found.append(Moved(sum(sizes), len(sizes)))
    return found


def seconds(one: Attention, speeds: Sequence[Speeds]) -> float:
    """As cost.seconds: about how long the slowest rank takes."""
    (query, key, part), shape, width = _sizes(one.shape), one.shape, one.ulysses_degree
    worst = 0.0
    for rank, own in enumerate(speeds):
        here = _Rank(one, rank)
        arriving = (here.row_queries - here.queries) * query + (width - 1) * here.queries * part
        column = own.wire((here.column_keys - here.keys) * key, one.ring_degree - 1)
        pair = 2 * shape.batch * shape.heads * (shape.head_dim + shape.v_dim)
        out = shape.batch * here.queries * shape.heads * shape.v_dim * 4
        worst = max(
            worst,
            arriving / own.bandwidth
            + 2 * (width - 1) * own.latency
            + column
            + here.row_queries * here.column_keys * pair / own.compute
            + (MERGE_PASSES + width - 1) * out / own.memory
            + own.launch,
        )
    return worst


def held(one: Attention, partial_size: int = 0) -> list[int]:
    """As cost.held: bytes at most above q, k and v."""
    (query, key, part), shape, width = _sizes(one.shape), one.shape, one.ulysses_degree
    found = []
    for rank in range(one.ranks):
        here = _Rank(one, rank)
        gathered = here.row_queries * query + here.column_keys * key
        # A CPU converts what it attends to.
        converted = gathered * partial_size // shape.element_size if partial_size > shape.element_size else 0
        token = shape.batch * shape.heads * shape.v_dim  # numbers of its output
        out, parts = here.row_queries * token, here.row_queries * part + (width - 1) * here.queries * part
        moments = {
            "converted": gathered + converted,
            "attended": (converted or gathered) + out * (partial_size or shape.element_size),
            "packed": out * (partial_size or shape.element_size) + here.row_queries * part,
            "merged": parts + 2 * here.queries * token * 4,
        }
        found.append(max(moments.values()))
    return found
