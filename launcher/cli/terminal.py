"""What the user sees while a session works. The screen is not the run: what can't be shown is dropped.

Errors go to standard error, and so does progress; what was made, and the tables, to standard output.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from launcher.problems import LauncherError, Refused, RunFailed
from launcher.wording import shorten

if TYPE_CHECKING:  # what is shown is imported when it is: a refusal does not wait for it
    from launcher.cli.standing import Lines
    from launcher.request.request import Request
    from launcher.running.job import Made
    from launcher.running.progress import Board, Progress
    from launcher.running.sweep import Sweep

LONGEST_RULE = 2000  # characters: words from files that others wrote may be in it


def prepare() -> None:
    """Make the three standard streams safe to use, whatever the shell has left of them.

    A closed one is opened to the null device, for else the next file that is opened would take its number. Letters
    that the encoding of a stream lacks are escaped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def show(text: str) -> None:
    """Print to standard output what a command was asked for.

    Raises:
        RunFailed: it can't be shown, and there is nothing else that the command is good for.
        BrokenPipeError: the reader has seen enough.
    """
    if sys.stdout is None:
        return
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up(sys.stdout)
        raise RunFailed(f"standard output can't be written: {error.strerror}") from error


def say(text: str, stream: TextIO | None) -> None:
    """Print what is good to know; a stream that can't be written is given up."""
    if stream is None:
        return
    try:
        print(text, file=stream, flush=True)
    except (OSError, ValueError):  # full, gone, or closed
        give_up(stream)


def give_up(stream: TextIO) -> None:
    """Let the null device take what a stream still holds: Python flushes it once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def complain(error: LauncherError) -> None:
    """Say what is wrong, each problem on its own lines, on standard error."""
    if not isinstance(error, Refused):
        say(f"launcher: {error}", sys.stderr)
        return
    for problem in error.problems:
        say(f"launcher: {shorten(problem.value, 300)}: {shorten(problem.rule, LONGEST_RULE)}", sys.stderr)
        if problem.instead:
            say(f"          {problem.instead}", sys.stderr)
        if problem.beside:
            say(problem.beside, sys.stderr)
    if error.works_here is not None:
        say(f"this works on this machine:\n  {error.works_here}", sys.stderr)


class Terminal:
    """A session's words on the screen."""

    def progress(self, steps: int, brief: bool) -> Progress:
        """A bar, or lines where there is no terminal."""
        from launcher.cli.progress import Bar

        return Bar(steps, brief, say)

    def board(self, steps: int) -> Board:
        """The same for several groups at once."""
        from launcher.cli.progress import Bars

        return Bars(steps, say)

    def lines(self, jobs: Sweep) -> Lines:
        """One for each job that runs elsewhere."""
        from launcher.cli.standing import Lines

        return Lines(jobs, say)

    def header(self, request: Request, folder: Path) -> None:
        """What is about to happen."""
        from launcher.cli import screen

        say(screen.header(request, folder), sys.stdout)

    def summary(self, made: Made) -> None:
        """What was made."""
        from launcher.cli import screen

        say(screen.summary(made), sys.stdout)

    def opening(self, jobs: Sweep, folder: Path, notes: list[str]) -> None:
        """A sweep's first lines."""
        from launcher.cli import sweep

        say(sweep.opening(jobs, folder, notes), sys.stdout)

    def job(self, jobs: Sweep, number: int) -> None:
        """A job's line."""
        from tqdm import tqdm

        from launcher.cli import sweep

        with tqdm.external_write_mode():  # other groups' bar may be on the screen
            say(sweep.line(jobs, number), sys.stdout)

    def unfinished(self, folder: Path) -> None:
        """How to go on."""
        say(f"to run what is missing, add resume={folder} to the same command", sys.stdout)

    def table(self, jobs: Sweep, closeness: Mapping[Path, str]) -> None:
        """A sweep's last lines."""
        from launcher.cli import sweep

        say(f"\n{sweep.table(jobs, closeness)}", sys.stdout)

    def contact_sheet(self, path: Path) -> None:
        """Where the pictures are side by side."""
        say(f"side by side: {path}", sys.stdout)

    def report(self, path: Path) -> None:
        """Where the sweep's report is."""
        say(f"report: {path}", sys.stdout)

    def said(self, text: str) -> None:
        """Lines of a job's own."""
        say(text, sys.stdout)

    def note(self, text: str) -> None:
        """What went wrong without harm."""
        say(f"launcher: {shorten(text, LONGEST_RULE)}", sys.stderr)
