"""How a job that Slurm runs gets on, written into its folder for the launcher that waits elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from launcher import codec
from launcher.reading import read_bytes
from launcher.records.files import whole
from launcher.records.run_dir import RunDir
from launcher.running.progress import Progress

FILE = "standing.json"  # among the logs of a run's folder
EVERY = 1.0  # seconds between writes, for a shared folder's sake
MOST = 1 << 12  # bytes


@dataclass(frozen=True)
class Standing:
    """How a job stands.

    Args:
        runs: false while it waits. what: its stage, or why it waits.
        step: denoising steps that are done, of `steps`; pace: seconds of each, 0 before the second.
        seconds: since it began.
    """

    runs: bool
    what: str
    step: int = 0
    steps: int = 0
    pace: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        if not self.runs:
            return f"waits: {self.what}" if self.what else "waits"
        steps = f" step {self.step} of {self.steps}" if self.step else ""
        pace = f", {self.pace:.3g} s/step" if self.pace else ""
        return f"{self.what}{steps}{pace}, {self.seconds:.0f} s"


class Lines(Protocol):
    """How the jobs of a sweep stand that run elsewhere."""

    def show(self, standing: Mapping[int, Standing]) -> None:
        """How those stand that have not ended, by their numbers."""

    def close(self) -> None:
        """All have ended."""


class UnseenLines:
    """The same of a sweep's jobs elsewhere."""

    def show(self, standing: Mapping[int, Standing]) -> None: ...
    def close(self) -> None: ...


class Written:
    """A job's progress, which goes on as it would and is written down beside it.

    Args:
        run_dir: the job's.
        steps: of the whole job.
        progress: what is told too.
    """

    def __init__(self, run_dir: RunDir, steps: int, progress: Progress) -> None:
        self._path, self._steps, self._progress = run_dir.logs / FILE, steps, progress
        self._stage, self._step, self._began, self._first, self._wrote = "", 0, time.monotonic(), 0.0, 0.0

    def at(self, stage: str) -> None:
        """Enter a stage."""
        self._progress.at(stage)
        if stage != self._stage:
            self._stage, self._wrote = stage, 0.0
        self._write()

    def tick(self) -> None:
        """Time went by."""
        self._progress.tick()
        self._write()

    def step(self) -> None:
        """One more step is done."""
        self._progress.step()
        self._step, self._stage = self._step + 1, "denoising"
        self._first = self._first or time.monotonic()
        self._write()

    def close(self) -> None:
        """The job has ended, and its record says the rest."""
        self._progress.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        now = time.monotonic()
        if now - self._wrote < EVERY:
            return
        self._wrote = now
        pace = (now - self._first) / (self._step - 1) if self._step > 1 else 0.0
        text = codec.dumps(Standing(True, self._stage, self._step, self._steps, pace, now - self._began))
        with contextlib.suppress(OSError), whole(self._path) as temporary:  # a full disk ends no run here
            temporary.write_text(text, encoding="utf-8")


def read(folder: Path) -> Standing:
    """How a job stands that runs: what it has written last, or that it starts."""
    with contextlib.suppress(OSError, ValueError):
        return codec.build(Standing, codec.parse(read_bytes(RunDir(folder).logs / FILE, MOST)))
    return Standing(True, "starting")
