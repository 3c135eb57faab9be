"""Progress of one job: a bar of denoising steps on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

LINE_EVERY = 5.0  # seconds between progress lines where there is no terminal to draw a bar on


class Progress:
    """A bar of denoising steps on a terminal, a line now and then elsewhere."""

    def __init__(self, steps: int, brief: bool = False) -> None:
        """`brief` leaves the stages out where there is no bar: a job of a sweep has a line of its own at its end."""
        self.steps, self.brief, self.done, self.stage = steps, brief, 0, ""
        self._began: float | None = None
        self._said = 0.0
        form = "{desc:<10} |{bar:30}| {n_fmt}/{total_fmt} {elapsed}{postfix}"
        self._bar = tqdm(total=steps, bar_format=form, leave=False) if sys.stderr.isatty() else None

    def at(self, stage: str) -> None:
        """Enter a stage: importing, loading, denoising, decoding."""
        if stage == self.stage:
            return
        self.stage = stage
        if self._bar is not None:
            self._bar.set_description_str(stage)
        elif not self.brief:
            self._say(f"{stage} ...")

    def tick(self) -> None:
        """Time went by."""
        if self._bar is not None:
            self._bar.refresh()

    def step(self) -> None:
        """One more step is done on rank 0. The first one of a run is left out of the step time."""
        now = time.monotonic()
        self.done += 1
        if self._began is None:
            self._began = self._said = now
        pace = f"{(now - self._began) / (self.done - 1):.3g} s/step" if self.done > 1 else ""
        self.at("denoising")
        if self._bar is not None:
            self._bar.set_postfix_str(pace, refresh=False)
            self._bar.update(1)
        elif now - self._said > LINE_EVERY:
            self._say(f"step {self.done} of {self.steps}  {pace}")

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._bar is not None:
            self._bar.close()

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        print(f"           {line}", file=sys.stderr, flush=True)
