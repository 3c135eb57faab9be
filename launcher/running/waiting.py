"""A job of Slurm's that a launcher on a login node waits for: what it says, and how it ends."""

from __future__ import annotations

import codecs
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from launcher import leaving, slurm
from launcher.problems import Interrupted, Refused, RunFailed
from launcher.records.record import Record, read_record
from launcher.records.run_dir import RunDir
from launcher.running.submission import OUTPUT
from launcher.wording import shorten

TICK = 1.0  # seconds between looks at what the job says
ASKED = 5.0  # seconds between questions to Slurm
DEAF = 600.0  # seconds for which Slurm may not answer
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
        words = _last_words(folder) or "and Slurm keeps no word of why"
        record = _ended(folder, record, f"Slurm job {job} ended before its run did: {words}")
    raise RunFailed(record.error or f"Slurm job {job} was interrupted")


def _until_gone(job: str, folder: Path, say: Callable[[str], None]) -> None:
    heard, asked, reached, told = _Tail(RunDir(folder).logs / OUTPUT), 0.0, time.monotonic(), ""
    while True:
        if text := heard.more():
            say(text)
        if leaving.asked.is_set():  # to end after the current picture, which is the job's to do
            leaving.asked.clear()
            slurm.ask("scancel", "--signal=USR1", "--batch", job)
        if time.monotonic() - asked > ASKED:
            asked = time.monotonic()
            try:
                state = slurm.state(job)
                reached = asked
            except Refused as error:
                if asked - reached > DEAF:
                    raise RunFailed(f"{error}; job {job} may go on, and {folder} says how it stands") from error
                state = told
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


def _last_words(folder: Path) -> str:
    with contextlib.suppress(OSError):
        text = (RunDir(folder).logs / OUTPUT).read_text(encoding="utf-8", errors="backslashreplace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        cancelled = [line.strip("* ") for line in lines if " CANCELLED AT " in line]
        return shorten((cancelled or lines or [""])[-1], 200)
    return ""


def _ended(folder: Path, record: Record, error: str) -> Record:
    run_dir = RunDir(folder)
    run_dir.rewrite(record, status="failed", error=error)
    return run_dir.record
