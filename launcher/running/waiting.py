"""A job of Slurm's that a launcher on a login node waits for: what it says, and how it ends."""

from __future__ import annotations

import codecs
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from launcher import leaving, slurm
from launcher.problems import Interrupted, Refused, RunFailed
from launcher.records.record import Record, read_record
from launcher.records.run_dir import RunDir
from launcher.running.submission import OUTPUT
from launcher.wording import shorten

TICK = 1.0  # seconds between looks at what the job says
ASKED = 5.0  # seconds between questions to Slurm
DEAF = 600.0  # seconds for which Slurm may not answer
T = TypeVar("T")
SETTLED = 10.0  # seconds that a shared folder may take to show what the job wrote last


def wait(job: str, folder: Path, say: Callable[[str], None]) -> Record:
    """Wait for a job's end and say what it says; a signal cancels the job.

    Returns:
        The run's record.

    Raises:
        RunFailed: it made no pictures, or Slurm has not answered for long.
    """
    try:
        _until_gone(job, folder, say)
    except (Interrupted, KeyboardInterrupt):
        with contextlib.suppress(Refused):
            slurm.ask("scancel", job)
        raise
    record = read_record(folder / "run.json")
    if record.status == "done":
        return record
    if record.status in ("queued", "running"):  # whatever ended it left no time for a last word
        words = last_words(folder) or "and Slurm keeps no word of why"
        record = _ended(folder, record, f"Slurm job {job} ended before its run did: {words}")
    raise RunFailed(record.error or f"Slurm job {job} was interrupted")


class Patience:
    """With a Slurm that may not answer for a while.

    Args:
        stands: what may be so all the same, told where it lasts too long.
        note: is told once if Slurm does not answer, and once if it does again.
    """

    def __init__(self, stands: str, note: Callable[[str], None]) -> None:
        self._stands, self._note, self._reached, self._silent = stands, note, time.monotonic(), False

    def asked(self, ask: Callable[[], T]) -> T | None:
        """What Slurm says, None where it does not answer.

        Raises:
            RunFailed: it has not for long.
        """
        try:
            found = ask()
        except Refused as error:
            if time.monotonic() - self._reached > DEAF:
                raise RunFailed(f"{error}; {self._stands}") from error
            if not self._silent:
                self._note(f"{error}; it is asked again, for {DEAF / 60:.0f} minutes")
            self._silent = True
            return None
        if self._silent:
            self._note("Slurm answers again")
        self._reached, self._silent = time.monotonic(), False
        return found


def _until_gone(job: str, folder: Path, say: Callable[[str], None]) -> None:
    heard, asked, told = _Tail(RunDir(folder).logs / OUTPUT), 0.0, ""
    patience = Patience(f"job {job} may go on, and {folder} says how it stands", say)
    while True:
        if text := heard.more():
            say(text)
        if leaving.asked.is_set() and _asked_to_leave(job, patience):
            leaving.asked.clear()
        if time.monotonic() - asked > ASKED:
            asked = time.monotonic()
            if (state := patience.asked(lambda: slurm.state(job))) is not None:
                if not state:
                    break
                if state != told and state.startswith("PENDING"):
                    say(f"job {job} waits: {state.partition(' ')[2].strip('()')}")
                told = state
        time.sleep(TICK)
    end = time.monotonic() + SETTLED
    while time.monotonic() < end and read_record(folder / "run.json").status in ("queued", "running"):
        time.sleep(TICK)
    if text := heard.more(last=True):
        say(text)


def _asked_to_leave(job: str, patience: Patience) -> bool:
    """Ask a job to end after the current picture; whether it was told."""
    return patience.asked(lambda: slurm.ask("scancel", "--signal=USR1", "--batch", job)) is not None


class _Tail:
    """What is added to a file, by whole lines."""

    def __init__(self, path: Path) -> None:
        self._path, self._read, self._left = path, 0, ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def more(self, last: bool = False) -> str:
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                data = file.read(1 << 20)
        except OSError:  # not there yet
            return ""
        self._read += len(data)
        self._left += self._decoder.decode(data)
        lines, _, rest = self._left.rpartition("\n")
        if last:
            lines, rest = self._left.rstrip("\n"), ""
        self._left = rest
        return lines


def last_words(folder: Path, name: str = OUTPUT) -> str:
    """What a job, or Slurm, said last in a file among the logs of a folder."""
    with contextlib.suppress(OSError):
        text = (RunDir(folder).logs / name).read_text(encoding="utf-8", errors="backslashreplace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        cancelled = [line.strip("* ") for line in lines if " CANCELLED AT " in line]
        return shorten((cancelled or lines or [""])[-1], 200)
    return ""


def _ended(folder: Path, record: Record, error: str) -> Record:
    run_dir = RunDir(folder)
    run_dir.rewrite(record, status="failed", error=error)
    return run_dir.record
