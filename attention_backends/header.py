"""What ranks tell each other once a forward, before the first attention: the codec of that one tiny message."""

from collections.abc import Sequence
from dataclasses import dataclass

STREAMS = 13  # that a header has room for: what any model splits, and more


@dataclass(frozen=True)
class Header:
    """One rank's view of a forward.

    Args:
        queries, keys: its tokens in the first attention.
        streams: whole lengths of what was split before it, in order; all ranks must agree about them.
    """

    queries: int
    keys: int
    streams: tuple[int, ...]

    def encode(self) -> list[int]:
        """As many integers on every rank: the lengths here, how many streams there are, and the first STREAMS."""
        told = self.streams[:STREAMS]
        return [self.queries, self.keys, len(self.streams), *told, *[0] * (STREAMS - len(told))]

    @classmethod
    def decode(cls, numbers: Sequence[int]) -> "Header":
        queries, keys, count, *streams = numbers
        return cls(queries, keys, tuple(streams[:count]))
