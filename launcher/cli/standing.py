"""All jobs of a sweep that run elsewhere, on one screen: live lines on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TextIO

from launcher.cli import sweep
from launcher.running.standing import Standing
from launcher.running.sweep import DONE, FAILED, KEPT, REFUSED, Sweep
from launcher.wording import shorten

if TYPE_CHECKING:
    from tqdm import tqdm


class Lines:
    """The jobs that are not done yet, those that run first, below a line that counts all.

    Args:
        say: prints a line to a stream, or drops it.
    """

    def __init__(self, jobs: Sweep, say: Callable[[str, TextIO | None], None]) -> None:
        self._jobs, self._say = jobs, say
        self._told: dict[int, str] = {}
        self._rows: list[tqdm[None]] = []
        self._drawn = sys.stderr is not None and sys.stderr.isatty()

    def show(self, standing: Mapping[int, Standing]) -> None:
        """Show how the jobs stand that have not ended, by their numbers."""
        for number, how in standing.items():
            key = "runs" if how.runs else str(how)
            if not self._drawn and self._told.get(number) != key:
                self._say(f"{sweep.label(self._jobs, number)}  {key}", sys.stderr)
            self._told[number] = key
        if self._drawn:
            self._draw(self._text(standing))

    def _text(self, standing: Mapping[int, Standing]) -> list[str]:
        ended = {word: sum(job.status == word for job in self._jobs.jobs) for word in (DONE, KEPT, FAILED, REFUSED)}
        running = sum(how.runs for how in standing.values())
        counts = ended | {"running": running, "waiting": len(standing) - running}
        lines = [", ".join(f"{count} {word}" for word, count in counts.items() if count)]
        for number in sorted(standing, key=lambda number: (not standing[number].runs, number)):
            lines.append(f"{sweep.label(self._jobs, number)}  {standing[number]}")
        size = shutil.get_terminal_size()
        if len(lines) > (most := max(2, size.lines - 2)):
            lines[most - 1 :] = [f"and {len(lines) - most + 1} more"]
        return [shorten(line, max(20, size.columns - 1)) for line in lines]

    def _draw(self, lines: list[str]) -> None:
        """A terminal that is gone takes the lines along."""
        from tqdm import tqdm

        try:
            while len(self._rows) > len(lines):
                self._rows.pop().close()
            while len(self._rows) < len(lines):
                self._rows.append(tqdm(total=1, bar_format="{desc}", leave=False, position=len(self._rows)))
            for row, line in zip(self._rows, lines, strict=True):
                row.set_description_str(line)
        except (OSError, ValueError):
            self._drawn, self._rows = False, []

    def close(self) -> None:
        """Take the lines off the screen, the lowest one first."""
        with contextlib.suppress(OSError, ValueError):
            while self._rows:
                self._rows.pop().close()
