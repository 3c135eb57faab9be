"""Who holds which tokens, and which of them travel: known to every rank without asking. No torch."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, pairwise


def split_lengths(total: int, parts: int, shares: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Lengths of `torch.tensor_split(x, parts)` for `total` tokens: the first `total % parts` shards hold one more.

    Unlike `torch.chunk` it always gives `parts` shards, some of them empty if there are fewer tokens than parts.

    Args:
        shares: in proportion to these whole numbers instead, one a part: a shard ends at the token nearest to where its
            share does. Equal ones are as none.
    """
    if len(set(shares)) < 2:
        return tuple((total + parts - 1 - part) // parts for part in range(parts))
    whole = sum(shares)  # integers alone, so that every rank, and torch.compile, finds the same
    ends = [(2 * total * sum(shares[:part]) + whole) // (2 * whole) for part in range(parts + 1)]
    return tuple(end - begin for begin, end in pairwise(ends))


@lru_cache(256)  # once an attention
def joined(totals: tuple[int, ...], parts: int, shares: tuple[int, ...] = ()) -> frozenset[tuple[int, ...]]:
    """Lengths on each rank of every choice of streams that an attention may join, each stream split by itself."""
    streams = [split_lengths(total, parts, shares) for total in totals]
    return frozenset(
        tuple(map(sum, zip(*chosen, strict=True)))
        for count in range(1, len(streams) + 1 if len(streams) <= 8 else 2)
        for chosen in combinations(streams, count)
    )


def look_alike(layouts: Collection[tuple[int, ...]]) -> bool:
    """Whether some rank holds as many tokens in one of them as in another."""
    return any(a[i] == b[i] for a in layouts for b in layouts if a != b for i in range(len(a)))


def split_heads(heads: int, parts: int, shares: tuple[int, ...] = ()) -> tuple[tuple[int, int], ...]:
    """Half-open head ranges (begin, end) of each part of a Ulysses row, by the same rule as `split_lengths`.

    Args:
        shares: of all ranks. All rows trade heads alike, so a part's share is that of the ranks at its place together.
    """
    ends = [0]
    for length in split_lengths(heads, parts, tuple(sum(shares[place::parts]) for place in range(parts))):
        ends.append(ends[-1] + length)
    return tuple(pairwise(ends))


def key_heads(query_heads: tuple[int, int], group_size: int) -> tuple[int, int]:
    """Range of key heads that a range of query heads reads; `group_size` query heads share a key head."""
    begin, end = query_heads
    return (begin // group_size, -(-end // group_size)) if end > begin else (0, 0)


@dataclass(frozen=True)
class Layout:
    """Tokens held by each rank, in rank order; the global order of tokens is the concatenation over ranks."""

    lengths: tuple[int, ...]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Global position of each rank's first token, and the total at the end."""
        ends = [0]
        for length in self.lengths:
            ends.append(ends[-1] + length)
        return tuple(ends)

    @property
    def total(self) -> int:
        return self.offsets[-1]

    def rows(self, width: int) -> "Layout":
        """The layout of groups of `width` neighbouring ranks, each holding what its members hold together."""
        return Layout(tuple(sum(self.lengths[i : i + width]) for i in range(0, len(self.lengths), width)))

    def check(self, rank: int, held: int, what: str) -> None:
        """Raise ValueError unless this rank holds what the layout says: no receive may ever be short or stale."""
        if self.lengths[rank] != held:
            raise ValueError(
                f"{what}: rank {rank} holds {held} tokens where the layout {list(self.lengths)} says "
                f"{self.lengths[rank]}. Every rank must be given the same, whole inputs."
            )


PIECES = 16  # that all blocks of a staged ring are cut into at most: the last one is left when the last byte is here
BLOCK = 256  # keys that a piece is a multiple of: kernels are slower on odd ends (6% with pieces of 284 on a CPU)


@dataclass(frozen=True)
class Route:
    """Which keys travel around a ring, from whom to whom and in which pieces.

    queries, keys: layouts over the members of the ring. schedule: "gather" sends a block whole, "staged" in pieces.
    Pieces follow from the lengths alone, so a staged attention is the same to the bit however messages arrive.
    """

    queries: Layout
    keys: Layout
    is_causal: bool = False
    schedule: str = "gather"

    def needed(self, member: int) -> int:
        """How many keys, from the first in global order, this member's queries attend to."""
        if not self.queries.lengths[member]:
            return 0
        return min(self.keys.total, self.queries.offsets[member + 1]) if self.is_causal else self.keys.total

    def pieces(self, owner: int, reader: int) -> list[tuple[int, int]]:
        """Global ranges in which owner's keys travel to reader."""
        begin, end = self.keys.offsets[owner], min(self.keys.offsets[owner + 1], self.needed(reader))
        step = max(end - begin, 1)
        if self.schedule == "staged":
            each = -(-PIECES // len(self.keys.lengths))
            step = -(-step // (each * BLOCK)) * BLOCK
        cuts = [*range(begin, end, step), end]
        if len(cuts) > 2 and cuts[-1] - cuts[-2] > BLOCK // 2:  # what is left when the last byte is here
            cuts[1:-1] = [cut + BLOCK // 2 for cut in cuts[1:-1]]
        return [] if end <= begin else list(pairwise(cuts))
