"""What a mode costs: the arithmetic of its algorithm. No torch."""

from collections.abc import Sequence
from typing import Protocol

from attention_backends import cost, cost2d
from attention_backends.catalog import Mode
from attention_backends.workload import Attention, Moved, Speeds


class Price(Protocol):
    """The arithmetic of one algorithm: cost.py documents it."""

    def sent(self, one: Attention) -> list[Moved]: ...
    def seconds(self, one: Attention, speeds: Sequence[Speeds]) -> float: ...
    def held(self, one: Attention, partial_size: int = 0) -> list[int]: ...


_BY_ALGORITHM: dict[str, Price] = {"unified": cost, "attention2d": cost2d}


def price(mode: Mode) -> Price:
    """The arithmetic of this mode; one rank alone is a ring of one."""
    return _BY_ALGORITHM[mode.algorithm or "unified"]
