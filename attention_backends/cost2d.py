"""What cost.py tells of a ring and Ulysses, for attention2d.py: plain arithmetic, no torch.

wire(rank)    = bytes it receives / bandwidth + messages * latency, before the attention and after it
compute(rank) = 4 B (its row's queries) (its column's keys) H D / speed
seconds       = max over ranks of  wire + compute + merge
"""

from attention_backends.cost import MERGE_PASSES, Moved, Shape, Speeds
from attention_backends.layout import Layout


class _Rank:
    """One place in the grid: tokens of its row and column, and its share of them."""

    def __init__(self, rank: int, queries: Layout, keys: Layout, ulysses_degree: int) -> None:
        row, column = divmod(rank, ulysses_degree)
        self.members = range(row * ulysses_degree, (row + 1) * ulysses_degree)
        self.column = range(column, len(keys.lengths), ulysses_degree)
        self.queries, self.keys = queries.lengths[rank], keys.lengths[rank]
        self.row_queries = sum(queries.lengths[peer] for peer in self.members)
        self.column_keys = sum(keys.lengths[peer] for peer in self.column)


def _sizes(shape: Shape) -> tuple[int, int, int]:
    """Bytes for one token: of a query, of a key and value, and of a partial output with its log-sum-exp."""
    lse = max(shape.element_size, 4)
    query = shape.heads * shape.head_dim * shape.element_size
    keys = shape.kv_heads * (shape.head_dim + shape.v_dim) * shape.element_size
    part = shape.heads * (shape.v_dim * shape.element_size + lse)
    return shape.batch * query, shape.batch * keys, shape.batch * part


def sent(
    queries: Layout,
    keys: Layout,
    shape: Shape,
    *,
    ring_degree: int,
    ulysses_degree: int,
    schedule: str = "gather",
    is_causal: bool = False,
    key_mask: int = 0,
    mask_per_head: bool = False,
) -> list[Moved]:
    """As cost.sent, for ring_degree rows of ulysses_degree ranks. schedule and is_causal change nothing."""
    query, key, part = _sizes(shape)
    found = []
    for rank in range(ring_degree * ulysses_degree):
        here = _Rank(rank, queries, keys, ulysses_degree)
        sizes = [here.queries * query] * (ulysses_degree - 1) + [here.keys * key] * (ring_degree - 1)
        sizes += [queries.lengths[peer] * part for peer in here.members if peer != rank]
        if key_mask:
            heads = shape.heads if mask_per_head else 1
            sizes += [here.keys * key_mask * heads] * (ring_degree * ulysses_degree - 1)
        sizes = [size for size in sizes if size]
        found.append(Moved(sum(sizes), len(sizes)))
    return found


def seconds(
    queries: Layout,
    keys: Layout,
    shape: Shape,
    speeds: Speeds,
    *,
    ring_degree: int,
    ulysses_degree: int,
    schedule: str = "gather",
    is_causal: bool = False,
) -> float:
    """As cost.seconds: about how long the slowest rank takes."""
    query, key, part = _sizes(shape)
    messages = 2 * (ulysses_degree - 1) + ring_degree - 1
    worst = 0.0
    for rank in range(ring_degree * ulysses_degree):
        here = _Rank(rank, queries, keys, ulysses_degree)
        arriving = (here.row_queries - here.queries) * query + (here.column_keys - here.keys) * key
        arriving += (ulysses_degree - 1) * here.queries * part
        pair = 2 * shape.batch * shape.heads * (shape.head_dim + shape.v_dim)
        out = shape.batch * here.queries * shape.heads * shape.v_dim * 4
        worst = max(
            worst,
            arriving / speeds.bandwidth
            + messages * speeds.latency
            + here.row_queries * here.column_keys * pair / speeds.compute
            + (MERGE_PASSES + ulysses_degree - 1) * out / speeds.memory
            + speeds.launch,
        )
    return worst


def held(
    queries: Layout,
    keys: Layout,
    shape: Shape,
    *,
    ring_degree: int,
    ulysses_degree: int,
    schedule: str = "gather",
    partial_size: int = 0,
) -> list[int]:
    """As cost.held: bytes at most above q, k and v."""
    query, key, part = _sizes(shape)
    found = []
    for rank in range(ring_degree * ulysses_degree):
        here = _Rank(rank, queries, keys, ulysses_degree)
        gathered = here.row_queries * query + here.column_keys * key
        # A CPU converts what it attends to.
        converted = gathered * partial_size // shape.element_size if partial_size > shape.element_size else 0
        token = shape.batch * shape.heads * shape.v_dim  # numbers of its output
        out, parts = here.row_queries * token, here.row_queries * part + (ulysses_degree - 1) * here.queries * part
        moments = {
            "converted": gathered + converted,
            "attended": (converted or gathered) + out * (partial_size or shape.element_size),
            "packed": out * (partial_size or shape.element_size) + here.row_queries * part,
            "merged": parts + 2 * here.queries * token * 4,
        }
        found.append(max(moments.values()))
    return found
