"""What a session tells while it works. The command line shows it; a `Pool` is silent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from launcher.running.progress import UNSEEN, Board, Progress, UnseenBoard
from launcher.running.standing import Lines, UnseenLines

if TYPE_CHECKING:
    from launcher.request.request import Request
    from launcher.running.job import Made
    from launcher.running.sweep import Sweep


class Screen(Protocol):
    """Where a session's words go. Whatever becomes of them, none of these may raise."""

    def progress(self, steps: int, brief: bool) -> Progress:
        """One for a job of so many steps; `brief` for a job of a sweep, which has a line of its own at its end."""

    def board(self, steps: int) -> Board:
        """One for several groups of ranks at once, which do so many steps together."""

    def lines(self, sweep: Sweep) -> Lines:
        """One for the jobs of a sweep that run elsewhere."""

    def header(self, request: Request, folder: Path) -> None:
        """A run starts."""

    def summary(self, made: Made) -> None:
        """A run has made its pictures."""

    def opening(self, sweep: Sweep, folder: Path, notes: list[str]) -> None:
        """A sweep starts: its jobs are checked."""

    def job(self, sweep: Sweep, number: int) -> None:
        """A job of a sweep has ended."""

    def unfinished(self, folder: Path) -> None:
        """A sweep was interrupted and can be resumed."""

    def table(self, sweep: Sweep, closeness: Mapping[Path, str]) -> None:
        """A sweep has ended; the first pictures of these folders are so near to their baselines'."""

    def contact_sheet(self, path: Path) -> None:
        """A sweep's pictures are side by side in this file."""

    def report(self, path: Path) -> None:
        """A sweep's report is in this file."""

    def note(self, text: str) -> None:
        """Something went wrong that changes nothing of what was made."""

    def said(self, text: str) -> None:
        """A job of Slurm's stands so, or says this."""


class Silent:
    """A screen that shows nothing."""

    def progress(self, steps: int, brief: bool) -> Progress:
        return UNSEEN

    def board(self, steps: int) -> Board:
        return UnseenBoard()

    def lines(self, sweep: Sweep) -> Lines:
        return UnseenLines()

    def header(self, request: Request, folder: Path) -> None: ...
    def summary(self, made: Made) -> None: ...
    def opening(self, sweep: Sweep, folder: Path, notes: list[str]) -> None: ...
    def job(self, sweep: Sweep, number: int) -> None: ...
    def unfinished(self, folder: Path) -> None: ...
    def table(self, sweep: Sweep, closeness: Mapping[Path, str]) -> None: ...
    def contact_sheet(self, path: Path) -> None: ...
    def report(self, path: Path) -> None: ...
    def note(self, text: str) -> None: ...
    def said(self, text: str) -> None: ...


SILENT = Silent()
