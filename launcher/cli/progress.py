"""Progress of one job: a bar of denoising steps on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from tqdm import tqdm

LINE_EVERY = 5.0  # seconds between progress lines where there is no terminal to draw a bar on


class Bar:
    """A bar of denoising steps on a terminal, a line now and then elsewhere.

    Args:
        steps: of the whole job.
        brief: leave the stages out where there is no bar: a job of a sweep has a line of its own at its end.
        say: prints a line to a stream, or drops it.
    """

    def __init__(self, steps: int, brief: bool, say: Callable[[str, TextIO | None], None]) -> None:
        self.steps, self.brief, self.done, self.stage, self._say = steps, brief, 0, "", say
        self._began: float | None = None
        self._said = 0.0
        self._bar: tqdm[None] | None = None
        if sys.stderr is not None and sys.stderr.isatty():
            form = "{desc:<10} |{bar:30}| {n_fmt}/{total_fmt} {elapsed}{postfix}"
            with self._drawing():
                self._bar = tqdm(total=steps, bar_format=form, leave=False)

    def at(self, stage: str) -> None:
        """Enter a stage: starting, importing, loading, denoising, decoding."""
        if stage == self.stage:
            return
        self.stage = stage
        if self._bar is None and not self.brief:
            self._line(f"{stage} ...")
        with self._drawing() as bar:
            if bar is not None:
                bar.set_description_str(stage)

    def tick(self) -> None:
        """Time went by."""
        with self._drawing() as bar:
            if bar is not None:
                bar.refresh()

    def step(self) -> None:
        """One more step is done on rank 0. The first one of a run is left out of the step time."""
        now = time.monotonic()
        self.done += 1
        if self._began is None:
            self._began = self._said = now
        pace = f"{(now - self._began) / (self.done - 1):.3g} s/step" if self.done > 1 else ""
        self.at("denoising")
        if self._bar is None and now - self._said > LINE_EVERY:
            self._line(f"step {self.done} of {self.steps}  {pace}")
        with self._drawing() as bar:
            if bar is not None:
                bar.set_postfix_str(pace, refresh=False)
                bar.update(1)

    def close(self) -> None:
        """Take the bar off the screen."""
        with self._drawing() as bar:
            if bar is not None:
                bar.close()

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[tqdm[None] | None]:
        """The bar, if there is one; a terminal that is gone takes it along."""
        try:
            yield self._bar
        except (OSError, ValueError):
            self._bar, self.brief = None, True

    def _line(self, line: str) -> None:
        self._said = time.monotonic()
        self._say(f"           {line}", sys.stderr)
