"""Progress of a job, or of several at once: bars of denoising steps on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
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
        self.pace = ""
        self._began: float | None = None
        self._said = 0.0
        self._bar: tqdm[None] | None = None
        if sys.stderr is not None and sys.stderr.isatty():
            form = "{desc:<10} |{bar:30}| {n_fmt}/{total_fmt} {elapsed}{postfix}"
            from tqdm import tqdm  # which a refusal does not wait for

            with self._drawing():
                self._bar = tqdm(total=steps, bar_format=form, leave=False)

    def at(self, stage: str) -> None:
        """Enter a stage: starting, importing, loading, encoding, first step, denoising, decoding."""
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
        self.pace = f"{(now - self._began) / (self.done - 1):.3g} s/step" if self.done > 1 else ""
        self.at("denoising")
        if self._bar is None and now - self._said > LINE_EVERY:
            self._line(f"step {self.done} of {self.steps}  {self.pace}")
        with self._drawing() as bar:
            if bar is not None:
                bar.set_postfix_str(self.pace, refresh=False)
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


class Bars:
    """A bar of all denoising steps and below it one for each group; a line now and then where there is no terminal.

    Args:
        steps: of all jobs.
        say: prints a line to a stream, or drops it.
    """

    def __init__(self, steps: int, say: Callable[[str, TextIO | None], None]) -> None:
        self._rows: dict[int, Row] = {}
        self._total, self._say = Bar(steps, True, lambda *_: None), say
        self._drawn = sys.stderr is not None and sys.stderr.isatty()
        self._said = time.monotonic()

    def job(self, group: int, what: str, steps: int) -> Row:
        """A group begins a job."""
        row = self._rows.get(group) or Row(self, group, self._drawn)
        self._rows[group] = row
        row.begin(what, steps)
        return row

    def moved(self, step: bool) -> None:
        """A group told of itself, perhaps of a step more."""
        if step:
            self._total.step()
        else:
            self._total.tick()
        if not self._drawn and time.monotonic() - self._said > LINE_EVERY:
            self._said = time.monotonic()
            groups = "; ".join(self._rows[group].told for group in sorted(self._rows))
            parts = [f"step {self._total.done} of {self._total.steps}", self._total.pace, groups]
            self._say(f"           {'  '.join(filter(None, parts))}", sys.stderr)

    def close(self) -> None:
        """Take the bars off the screen, the lowest one first."""
        for group in sorted(self._rows, reverse=True):
            self._rows[group].take_off()
        self._total.close()


class Row:
    """How one of several groups gets on with its job."""

    def __init__(self, bars: Bars, group: int, draws: bool) -> None:
        self._bars, self._group, self._what, self._stage, self._done, self._steps = bars, group, "", "", 0, 0
        self._bar: tqdm[None] | None = None
        if draws:
            form = "{desc:<20} |{bar:20}| {n_fmt}/{total_fmt}{postfix}"
            from tqdm import tqdm

            with contextlib.suppress(OSError, ValueError):
                self._bar = tqdm(total=1, bar_format=form, leave=False, position=group + 1)

    @property
    def told(self) -> str:
        """The group, its stage and its steps: `group 1 denoising 3 of 12`."""
        steps = f" {self._done} of {self._steps}" if self._stage == "denoising" else ""
        return f"group {self._group + 1} {self._stage or 'waiting'}{steps}"

    def begin(self, what: str, steps: int) -> None:
        """Another job."""
        self._what, self._steps, self._done, self._stage = what, steps, 0, ""
        with contextlib.suppress(OSError, ValueError):
            if self._bar is not None:
                self._bar.reset(total=steps)
        self._draw()

    def at(self, stage: str) -> None:
        """Enter a stage."""
        self._stage = stage
        self._draw()
        self._bars.moved(step=False)

    def tick(self) -> None:
        """Time went by."""
        self._bars.moved(step=False)

    def step(self) -> None:
        """One more step is done by the group."""
        self._stage, self._done = "denoising", self._done + 1
        self._draw()
        self._bars.moved(step=True)

    def close(self) -> None:
        """The job has ended; the group may begin another one."""
        self._stage, self._what = "", ""
        self._draw()

    def take_off(self) -> None:
        """No more jobs."""
        with contextlib.suppress(OSError, ValueError):
            if self._bar is not None:
                self._bar.close()

    def _draw(self) -> None:
        """A terminal that is gone takes the bar along."""
        try:
            if self._bar is not None:
                self._bar.n = self._done
                self._bar.set_description_str(f"group {self._group + 1} {self._stage or 'waiting'}", refresh=False)
                self._bar.set_postfix_str(self._what, refresh=False)
                self._bar.refresh()
        except (OSError, ValueError):
            self._bar = None
