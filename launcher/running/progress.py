"""How one job gets on, as the launcher sees it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What a job tells while it works."""

    def at(self, stage: str) -> None:
        """Enter a stage: starting, importing, loading, encoding, first step, denoising, decoding."""

    def tick(self) -> None:
        """Time went by."""

    def step(self) -> None:
        """One more denoising step is done on rank 0."""

    def close(self) -> None:
        """The job has ended."""


class Board(Protocol):
    """How several groups of ranks get on that work at once."""

    def job(self, group: int, what: str, steps: int) -> Progress:
        """A group, from 0, begins a job of so many steps; `what` tells it from other jobs."""

    def close(self) -> None:
        """All have ended."""


class Unseen:
    """Progress that nobody watches."""

    def at(self, stage: str) -> None: ...
    def tick(self) -> None: ...
    def step(self) -> None: ...
    def close(self) -> None: ...


class UnseenBoard:
    """The same of several groups."""

    def job(self, group: int, what: str, steps: int) -> Progress:
        return UNSEEN

    def close(self) -> None: ...


UNSEEN = Unseen()
