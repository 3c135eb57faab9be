"""What ranks tell each other once a forward, before the first attention: the codec of that one tiny message."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

STREAMS = 13  # that a header has room for: what any model splits, and more
DTYPES = ("float64", "float32", "bfloat16", "float16")
FACTS = (
    *("batch", "heads", "key heads", "head size", "value size", "dtype", "an attention mask", "causal attention"),
    *("timestep", "the inputs"),
)


@dataclass(frozen=True)
class Header:
    """One rank's view of a forward.

    Args:
        queries, keys: its tokens in the first attention.
        facts: of the first attention, as FACTS names them; all ranks must agree about them.
        streams: whole lengths of what was split before it, in order; likewise.
    """

    queries: int
    keys: int
    facts: tuple[int, ...] = (0,) * len(FACTS)
    streams: tuple[int, ...] = ()

    def encode(self) -> list[int]:
        """As many integers on every rank: lengths, facts, and the streams, if need be the last ones by a checksum."""
        told = self.streams
        if len(told) > STREAMS:
            told = (*told[: STREAMS - 1], zlib.crc32(str(told).encode()))
        return [self.queries, self.keys, *self.facts, len(told), *told, *[0] * (STREAMS - len(told))]

    @classmethod
    def decode(cls, numbers: Sequence[int]) -> "Header":
        queries, keys, *rest = numbers
        facts, (count, *streams) = rest[: len(FACTS)], rest[len(FACTS) :]
        return cls(queries, keys, tuple(facts), tuple(streams[:count]))


def disagreement(everyone: Sequence[Header]) -> str:
    """What ranks do not agree about, "" if all is well; the same words on every rank."""
    first = everyone[0]
    for rank, header in enumerate(everyone):
        for name, here, there in zip(FACTS[:-1], first.facts, header.facts, strict=False):
            if here != there:
                return f"rank 0 has {_told(name, here)}, rank {rank} {_told(name, there)}"
        if header.streams != first.streams:
            return f"rank 0 was given {list(first.streams)} tokens, rank {rank} {list(header.streams)}"
        if header.facts[-1] != first.facts[-1]:
            return f"the shapes of what rank 0 was given differ from those of rank {rank}"
    return ""


def checksum(numbers: Sequence[int]) -> int:
    """Of what `shapes` tells, in one number."""
    return zlib.crc32(str(list(numbers)).encode())


def bits(value: float) -> int:
    """A float64 as an integer of its bits."""
    return int.from_bytes(struct.pack("<d", value), "little", signed=True)


def number(value: int) -> float:
    """The float64 that these are the bits of."""
    (found,) = struct.unpack("<d", value.to_bytes(8, "little", signed=True))
    return float(found)


def _told(name: str, value: int) -> str:
    if name == "timestep":
        return f"timestep {number(value):g}"
    if name in ("an attention mask", "causal attention"):
        return name if value else f"no {name.removeprefix('an ')}"
    if name == "dtype":
        return f"dtype {DTYPES[value] if 0 <= value < len(DTYPES) else 'unknown'}"
    return f"{name} {value}"
