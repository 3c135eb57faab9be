"""A sweep: which jobs there are, what varies between them, and how each of them ended."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from launcher import slurm
from launcher.config.paths import PATHS
from launcher.config.text import PROMPTS, is_text, parsed, quoted
from launcher.problems import Problem, Refused
from launcher.records.files import sha256
from launcher.records.run_dir import portable_override
from launcher.request.request import Request
from launcher.running.hold import is_held
from launcher.wording import shorten

if TYPE_CHECKING:
    from launcher.records.record import File, Record
    from launcher.running.job import Made

DONE, FAILED, REFUSED, KEPT, QUEUED = "done", "failed", "refused", "kept", "queued"


@dataclass
class Job:
    """One configuration of a sweep; a single run is a sweep of one."""

    words: list[str]
    composed: DictConfig | None = None
    request: Request | None = None
    problems: list[Problem] = field(default_factory=list)
    status: str = ""
    reason: str = ""
    made: Made | None = None
    folder: Path | None = None  # where it runs; None if the words can't be read
    earlier: str = ""  # how an earlier try ended, of a job that is run again

    def fail(self, status: str, reason: str) -> None:
        """Note how it ended, in one line."""
        self.status, self.reason = status, " ".join(reason.split())

    @property
    def pace(self) -> float:
        """Seconds a denoising step."""
        assert self.request is not None
        assert self.made is not None
        from launcher.records.record import step_time

        record = self.made.record
        if (found := step_time(record.step_seconds, any(record.skipped_steps or ()))) is not None:
            return found
        return (record.times or {})["denoise"] / (self.request.denoising_steps * len(self.request.calls))

    @property
    def first(self) -> Path:
        """The first picture of a job that is done."""
        assert self.made is not None
        return self.made.folder / self.made.record.files[0].file


class Sweep:
    """The jobs of one command line, in Hydra's order; with `allow_refused` some of them may be illegal."""

    def __init__(self, jobs: list[Job], allow_refused: bool = False) -> None:
        self.jobs, self.allow_refused = jobs, allow_refused
        values: dict[str, dict[str, None]] = {}
        for job in jobs:
            for key, value in pairs(job.words):
                values.setdefault(key, {})[value] = None
        self.varied = {key: list(found) for key, found in values.items() if len(found) > 1}

    def varying(self, job: Job) -> str:
        """What sets a job apart: `cp=ring seed=2`."""
        return shorten(" ".join(f"{key}={value}" for key, value in pairs(job.words) if key in self.varied), 70)

    def whole(self, key: str) -> str:
        """The values of a setting as the one text that was typed, quoted so that Hydra reads it as one."""
        return quoted(", ".join(self.varied[key]))

    @property
    def failed(self) -> bool:
        """Whether any job did not end in pictures, but for those that may be refused; or none did."""
        ended = [
            job.status in (DONE, KEPT, QUEUED) for job in self.jobs if job.status != REFUSED or not self.allow_refused
        ]
        return not (ended and all(ended))

    def pictures(self) -> list[tuple[Path, str]]:
        """Each finished job's first picture, and what sets the job apart."""
        found = []
        for job in self.jobs:
            if job.status == DONE:
                found.append((job.first, self.varying(job)))
            elif job.status == KEPT:
                found.append((Path(job.reason), self.varying(job)))
        return found


def notes_on_seed(sweep: Sweep, seed: int) -> list[str]:
    """The seed that was drawn for the jobs that name none."""
    unnamed = any(job.composed is not None and job.composed.seed is None for job in sweep.jobs)
    return [f"seed={seed}, drawn once for all jobs"] if unnamed else []


def notes_on_memory(sweep: Sweep) -> list[str]:
    """What memory=auto took, for which jobs."""
    jobs: dict[str, list[str]] = {}
    for number, job in enumerate(sweep.jobs, 1):
        if job.request is not None and job.request.taken and not job.problems:
            jobs.setdefault(job.request.taken_why, []).append(str(number))
    return [f"job{'s' * (len(of) > 1)} {', '.join(of)}: {why}" for why, of in jobs.items()]


def notes_on_prompts(sweep: Sweep, words: list[str]) -> list[str]:
    """How commas in prompts were read, which is not to be guessed."""
    found = []
    for word in words:
        key, _, value = word.partition("=")
        if key in PROMPTS and "," in value and parsed(word) is None:
            found.append(f"{key} is one text, commas included: Hydra can't read it as a list")
    for key in PROMPTS:
        if key in sweep.varied:
            whole = shlex.quote(f"{key}={sweep.whole(key)}")
            found.append(f"the commas make {len(sweep.varied[key])} values of {key}; for a single one type {whole}")
    return found


def resume(sweep: Sweep, folder: Path) -> None:
    """Mark what is done in the folder of an earlier, equal sweep; move what is not done out of the way.

    Nothing that is written there is trusted: a record that can't be read, or that names what is no picture in its own
    folder, is that of a job to run again.

    Raises:
        Refused: the sweep there was another one, or a job of it is running; nothing is moved then.
    """
    value, move = f"resume={folder}", []
    for number, job in enumerate(sweep.jobs):
        if job.folder is None or not os.path.lexists(job.folder / "run.json"):
            continue
        if is_held(job.folder):
            raise Refused([Problem(value, f"job {number} is running there", "wait for its end")])
        record = _record(job.folder)
        if record is not None and record.status == "queued" and record.slurm and slurm.state(record.slurm.id):
            rule = f"job {number} waits in Slurm's queue, as job {record.slurm.id}"
            raise Refused([Problem(value, rule, f"wait for its end, or type scancel {record.slurm.id}")])
        if record is not None and _drawn_by(record.overrides) != _drawn_by(recorded(job.words)):
            then, now = (shorten(" ".join(words), 300) for words in (record.overrides, recorded(job.words)))
            rule = f"job {number} there was {then or 'without settings'}, and here it is {now or 'without settings'}"
            raise Refused([Problem(value, rule, "give the same settings as then, and nothing else")])
        if record is not None and record.status == DONE and _has_files(job.folder, record):
            job.status = KEPT
            job.reason = str(_shown(job.folder, folder) / record.files[0].file)
        elif not job.problems:
            job.earlier = _ended(record)
            move.append(job.folder)
    for place in move:
        place.rename(next(name for name in _aside(place) if not os.path.lexists(name)))


def _drawn_by(words: Iterable[str]) -> list[str]:
    """The settings without the cluster's: with another time limit or partition the same is drawn."""
    return [word for word in words if not word.startswith(("cluster=", "cluster."))]


def _record(folder: Path) -> Record | None:
    """A job's record, if it can be read."""
    from launcher.records.record import read_record

    try:
        return read_record(folder / "run.json")
    except (OSError, ValueError):
        return None


def _has_files(folder: Path, record: Record) -> bool:
    """Whether all that a record names is there, unchanged, as files of the job's own."""
    return bool(record.files) and all(_is(folder / made.file, made) for made in record.files)


def _is(path: Path, made: File) -> bool:
    """Whether a path holds the file that a record describes."""
    try:
        regular = path.is_file() and not path.is_symlink() and path.stat().st_size == made.bytes
        return regular and sha256(path) == made.sha256
    except OSError:
        return False


def _ended(record: Record | None) -> str:
    """How an earlier try ended."""
    if record is None:
        return "whose record can't be read"
    ends = {
        "queued": "which Slurm never started",
        "running": "whose launcher was killed",
        "interrupted": "which was interrupted",
        "failed": "which failed",
    }
    return ends.get(record.status, "whose pictures are missing or changed")


def _shown(place: Path, folder: Path) -> Path:
    """A job's folder as the user knows it: below the sweep's, which may be relative."""
    whole = folder.absolute()
    return folder / place.relative_to(whole) if place.is_relative_to(whole) else place


def recorded(words: list[str]) -> list[str]:
    """A job's settings as its record keeps them: without paths of this machine, and without how it was resumed."""
    passed_over = ("resume=", "hydra.", "fail_fast=", "allow_refused=", "data=")
    kept = (word for word in words if not word.startswith(passed_over))
    return [portable_override(_plain_path(word)) for word in kept]


def refusal(job: Job) -> str:
    """Why a job was refused, without the folders of this machine that its settings name; "" if it was not."""
    text = job.reason if job.status == REFUSED else ""
    for word in job.words:
        given, kept = (one.partition("=")[2].strip("'\"") for one in (word, portable_override(word)))
        text = text.replace(given, kept) if given and kept != given else text
    return text


def _plain_path(word: str) -> str:
    """A path as Hydra reads it, without the blanks, escapes and functions that it may be wrapped in."""
    key, _, value = word.partition("=")
    read = parsed(word) if key.lstrip("+") in PATHS else None
    text = None if read is None or read.is_sweep_override() else read.value()
    return f"{key}={quoted(text)}" if isinstance(text, str) and text not in (value, value[1:-1]) else word


def _aside(place: Path) -> Iterator[Path]:
    number = 1
    while True:
        yield place.with_name(f"{place.name}.failed{number}")
        number += 1


def pairs(words: list[str]) -> list[tuple[str, str]]:
    """The settings of a job and their values, as they are shown: text without the quotes that Hydra needs."""
    found = []
    for word in words:
        key, _, value = word.partition("=")
        read = parsed(word) if value.startswith(("'", '"')) and is_text(key.lstrip("+")) else None
        shown = value if read is None else str(read.value()).replace("\\${", "${")
        found.append((key.lstrip("+"), shown))
    return found
