"""How the ranks of a run are arranged: who works on which picture, on which half of its guidance, on which tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from launcher.wording import plural


class Place(NamedTuple):
    """Where a rank stands in a mesh, each coordinate from 0."""

    data: int
    cfg: int
    ring: int
    ulysses: int


@dataclass(frozen=True)
class Mesh:
    """data x cfg x ring x ulysses ranks, rank 0 first along every axis.

    Ulysses changes fastest, for its ranks exchange most and so get the fastest links; then the ring, then the halves
    of classifier-free guidance, and the copies that make different pictures last.

    A mesh holds what was asked for: a degree may be 0 or less, and a rule names it then.
    """

    data: int = 1
    cfg: int = 1
    ring: int = 1
    ulysses: int = 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The degrees, slowest axis first."""
        return self.data, self.cfg, self.ring, self.ulysses

    @property
    def ranks(self) -> int:
        """Processes of a run."""
        return math.prod(self.shape)

    @property
    def sequence(self) -> int:
        """Ranks that share the tokens of one picture."""
        return self.ring * self.ulysses

    @property
    def whole(self) -> bool:
        """Whether every degree is at least 1, as arithmetic needs."""
        return min(self.shape) >= 1

    def place(self, rank: int) -> Place:
        """The coordinates of a rank.

        Raises:
            ValueError: the mesh has no such rank; the message prints the product of its degrees.
        """
        if not self.whole or not 0 <= rank < self.ranks:
            raise ValueError(f"rank {rank}: {self} has ranks 0 to {self.ranks - 1}")
        rest, ulysses = divmod(rank, self.ulysses)
        rest, ring = divmod(rest, self.ring)
        data, cfg = divmod(rest, self.cfg)
        return Place(data, cfg, ring, ulysses)

    def rank(self, place: Place) -> int:
        """The rank at these coordinates: the inverse of `place`.

        Raises:
            ValueError: a coordinate is outside the mesh.
        """
        if not all(0 <= at < degree for at, degree in zip(place, self.shape, strict=True)):
            raise ValueError(f"{place}: outside {self}")
        return ((place.data * self.cfg + place.cfg) * self.ring + place.ring) * self.ulysses + place.ulysses

    def mismatch(self, processes: int) -> str | None:
        """Why so many processes do not fill the mesh, with the product of its degrees; None where they do."""
        return None if processes == self.ranks else f"{self}, not {processes}"

    def __str__(self) -> str:
        return f"{self.formula} = {plural(self.ranks, 'rank')}"

    @property
    def formula(self) -> str:
        """`ring_degree 2 x ulysses_degree 3`; the other axes only where they are used."""
        outer = [f"{name}_degree {degree}" for name, degree in (("data", self.data), ("cfg", self.cfg)) if degree != 1]
        return " x ".join([*outer, f"ring_degree {self.ring}", f"ulysses_degree {self.ulysses}"])
