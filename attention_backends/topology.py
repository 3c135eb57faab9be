"""Which rank plays which part: ring outside, Ulysses inside."""

from dataclasses import dataclass

from attention_backends.layout import split_heads, split_lengths
from attention_backends.transport import Group


@dataclass(frozen=True, eq=False)
class Topology:
    """ring_degree x ulysses_degree ranks of one group; rank = ring_index * ulysses_degree + ulysses_index.

    Ulysses ranks are neighbours (they move more often, so they get the faster links of one machine); a ring joins the
    ranks of equal ulysses_index. shares: of the tokens and heads, one a rank; empty: they are shared equally.
    """

    group: Group
    rank: int
    ring_degree: int
    ulysses_degree: int
    shares: tuple[int, ...] = ()

    def lengths(self, total: int) -> tuple[int, ...]:
        """How many of so many tokens each rank holds."""
        return split_lengths(total, self.world_size, self.shares)

    def heads(self, count: int) -> tuple[tuple[int, int], ...]:
        """The range of heads that each member of a Ulysses row holds."""
        return split_heads(count, self.ulysses_degree, self.shares)

    @property
    def world_size(self) -> int:
        return self.ring_degree * self.ulysses_degree

    @property
    def ring_index(self) -> int:
        return self.rank // self.ulysses_degree

    @property
    def ulysses_index(self) -> int:
        return self.rank % self.ulysses_degree

    @property
    def ring(self) -> tuple[int, ...]:
        """Ranks of this rank's ring, in order."""
        return tuple(range(self.ulysses_index, self.world_size, self.ulysses_degree))

    @property
    def row(self) -> tuple[int, ...]:
        """Ranks of this rank's Ulysses row, in order."""
        begin = self.ring_index * self.ulysses_degree
        return tuple(range(begin, begin + self.ulysses_degree))
