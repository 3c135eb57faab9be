"""What a mode costs: the arithmetic of its algorithm. No torch."""

from typing import Protocol

from attention_backends import cost, cost2d
from attention_backends.catalog import Mode
from attention_backends.cost import Moved, Shape, Speeds
from attention_backends.layout import Layout


class Price(Protocol):
    """The arithmetic of one algorithm: cost.py documents the arguments."""

    def sent(
        self,
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
    ) -> list[Moved]: ...

    def seconds(
        self,
        queries: Layout,
        keys: Layout,
        shape: Shape,
        speeds: Speeds,
        *,
        ring_degree: int,
        ulysses_degree: int,
        schedule: str = "gather",
        is_causal: bool = False,
    ) -> float: ...

    def held(
        self,
        queries: Layout,
        keys: Layout,
        shape: Shape,
        *,
        ring_degree: int,
        ulysses_degree: int,
        schedule: str = "gather",
        partial_size: int = 0,
    ) -> list[int]: ...


_BY_ALGORITHM: dict[str, Price] = {"unified": cost, "attention2d": cost2d}


def price(mode: Mode) -> Price:
    """The arithmetic of this mode; one rank alone is a ring of one."""
    return _BY_ALGORITHM[mode.algorithm or "unified"]
