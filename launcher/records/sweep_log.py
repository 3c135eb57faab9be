"""sweep.json: how each job of a sweep ended, those that were refused included, which have no folder of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher import codec
from launcher.reading import read_bytes
from launcher.records.files import whole

NAME = "sweep.json"
MAX_BYTES = 64 << 20  # of a file that is read


@dataclass(frozen=True)
class SweepJob:
    """One job: its settings as a record keeps them, and why it was refused or failed."""

    number: int
    overrides: tuple[str, ...]
    status: str
    reason: str = ""


@dataclass(frozen=True)
class SweepLog:
    """A sweep's jobs."""

    schema: int
    jobs: tuple[SweepJob, ...]


def write_sweep(folder: Path, jobs: list[SweepJob]) -> None:
    """Write the file.

    Raises:
        OSError: it can't be written; an older one is left as it was.
    """
    with whole(folder / NAME) as temporary:
        temporary.write_text(codec.dumps(SweepLog(1, tuple(jobs)), indent=1) + "\n", encoding="utf-8")


def read_sweep(folder: Path) -> tuple[SweepJob, ...]:
    """The jobs of the sweep whose folder this is; none where there is no such file, or none that can be read."""
    try:
        return codec.loads(SweepLog, read_bytes(folder / NAME, MAX_BYTES)).jobs
    except ValueError:
        return ()
