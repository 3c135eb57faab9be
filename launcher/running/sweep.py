"""A sweep: which jobs there are, what varies between them, and how each of them ended."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from launcher.config.compose import quoted
from launcher.problems import Problem, Refused
from launcher.records.run_dir import portable_override
from launcher.request.request import Request
from launcher.wording import shorten

DONE, FAILED, REFUSED, KEPT = "done", "failed", "refused", "kept"
MAX_VALUES = 6  # of a varied setting, in the first line of a sweep


@dataclass
class Job:
    """One configuration of a sweep; a single run is a sweep of one."""

    words: list[str]
    composed: DictConfig | None = None
    request: Request | None = None
    problems: list[Problem] = field(default_factory=list)
    status: str = ""
    reason: str = ""
    made: dict[str, Any] = field(default_factory=dict)

    def fail(self, status: str, reason: str) -> None:
        """Note how it ended, in one line."""
        self.status, self.reason = status, " ".join(reason.split())

    @property
    def pace(self) -> float:
        """Seconds a denoising step."""
        assert self.request is not None
        return self.made["times"]["denoise"] / (self.request.config.steps * len(self.made["files"]))


class Sweep:
    """The jobs of one command line, in Hydra's order."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs
        values: dict[str, dict[str, None]] = {}
        for job in jobs:
            for key, value in _pairs(job.words):
                values.setdefault(key, {})[value] = None
        self.varied = {key: list(found) for key, found in values.items() if len(found) > 1}

    def varying(self, job: Job) -> str:
        """What sets a job apart: `cp=ring seed=2`."""
        return shorten(" ".join(f"{key}={value}" for key, value in _pairs(job.words) if key in self.varied), 70)

    def opening(self, folder: Path) -> str:
        """How many jobs there are, and what they differ in; the illegal ones with their reasons."""
        parts = []
        for key, found in self.varied.items():
            more = ", ..." if len(found) > MAX_VALUES else ""
            parts.append(f"{key} ({shorten(', '.join(found[:MAX_VALUES]))}{more})")
        count = f"{len(self.jobs)} job{'s' * (len(self.jobs) != 1)}"
        lines = [f"{'sweep':<10} {count}" + (": " + " x ".join(parts) if parts else ""), f"{'run':<10} {folder}"]
        for key in ("prompt", "negative_prompt"):
            if key in self.varied:
                whole = shlex.quote(f"{key}={quoted(', '.join(self.varied[key]))}")
                lines.append(f"{'note':<10} commas make {len(self.varied[key])} of one {key}; as one: {shorten(whole)}")
        for number, job in enumerate(self.jobs):
            if job.status == KEPT:
                lines.append(f"{'kept':<10} {self._label(number)}, which is done already")
            for problem in job.problems:
                lines.append(f"{'refused':<10} {self._label(number)}: {problem}")
        return "\n".join(lines)

    def line(self, number: int) -> str:
        """How a job ended, in one line."""
        job = self.jobs[number]
        result = f"failed  {job.reason}" if job.status == FAILED else "  ".join(filter(None, self._cells(job)))
        return f"{self._label(number)}  {result}"

    def table(self) -> str:
        """All jobs: what varied, how each ended, its step time, peak memory and first picture or its reason."""
        heads = ["job", *self.varied, "status", "s/step", "peak MiB", "picture or reason"]
        rows = [heads]
        for number, job in enumerate(self.jobs):
            pairs = dict(_pairs(job.words))
            status, pace, peak, result = self._cells(job)
            numbers = [pace.removesuffix(" s/step"), peak.removesuffix(" MiB")]
            rows.append(
                [str(number), *(shorten(pairs.get(key, ""), 40) for key in self.varied), status, *numbers, result]
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * min(width, 60) for width in widths))
        counts = {status: sum(job.status == status for job in self.jobs) for status in (DONE, KEPT, FAILED, REFUSED)}
        lines.append(", ".join(f"{count} {status}" for status, count in counts.items() if count) or "nothing was run")
        return "\n".join(lines)

    @property
    def failed(self) -> bool:
        """Whether any job did not end in pictures."""
        return any(job.status not in (DONE, KEPT) for job in self.jobs)

    def pictures(self) -> list[tuple[Path, str]]:
        """Each finished job's first picture, and what sets the job apart."""
        found = []
        for job in self.jobs:
            if job.status == DONE:
                found.append((job.made["folder"] / job.made["files"][0]["file"], self.varying(job)))
            elif job.status == KEPT:
                found.append((Path(job.reason), self.varying(job)))
        return found

    def _label(self, number: int) -> str:
        width = len(str(len(self.jobs)))
        return f"[{number + 1:>{width}}/{len(self.jobs)}] {self.varying(self.jobs[number])}".rstrip()

    def _cells(self, job: Job) -> tuple[str, str, str, str]:
        if job.status != DONE:
            return job.status or "not run", "", "", shorten(job.reason, 120)
        peak = f"{max(job.made['peak_bytes']) / 2**20:.0f} MiB"
        return DONE, f"{job.pace:.3g} s/step", peak, str(job.made["folder"] / job.made["files"][0]["file"])


def resume(sweep: Sweep, folder: Path) -> None:
    """Mark what is done in the folder of an earlier, equal sweep; move what is not done out of the way.

    Raises:
        Refused: the folder is no sweep's, or the sweep there was another one; nothing is moved then.
    """
    value, move = f"resume={folder}", []
    if not folder.is_dir() or not any(folder.glob("*/run.json")):
        raise Refused(
            [Problem(value, "is no folder of an earlier sweep", "give the folder that its first lines named")]
        )
    for number, job in enumerate(sweep.jobs):
        place = folder / str(number)
        if not (place / "run.json").exists():
            continue
        try:
            record = json.loads((place / "run.json").read_text(encoding="utf-8"))
            status, words = record["status"], record["overrides"]
        except (OSError, ValueError, KeyError, TypeError):
            status, words = "unreadable", None
        if words is not None and words != recorded(job.words):
            rule = f"job {number} there was {' '.join(words) or 'without settings'}, and here it is "
            rule += " ".join(recorded(job.words)) or "without settings"
            raise Refused([Problem(value, rule, "give the same settings as then, and nothing else")])
        whole = status == DONE and all((place / facts["file"]).is_file() for facts in record["files"])
        if whole:
            job.status = KEPT
            job.reason = str(place / record["files"][0]["file"])
        elif not job.problems:
            move.append(place)
    for place in move:
        place.rename(next(name for name in _aside(place) if not name.exists()))


def recorded(words: list[str]) -> list[str]:
    """A job's settings as its record keeps them: without paths of this machine, and without how it was resumed."""
    return [portable_override(word) for word in words if not word.startswith(("resume=", "hydra.", "fail_fast="))]


def _aside(place: Path) -> Iterator[Path]:
    number = 1
    while True:
        yield place.with_name(f"{place.name}.failed{number}")
        number += 1


def _pairs(words: list[str]) -> list[tuple[str, str]]:
    pairs = (word.partition("=") for word in words)
    return [(key.lstrip("+"), value if value.startswith(("'", '"')) else _plain(value)) for key, _, value in pairs]


def _plain(value: str) -> str:
    """A value without the backslashes that Hydra's sweeper puts before spaces and signs."""
    return re.sub(r"\\([\\()\[\]{}:=, \t])", r"\1", value)
