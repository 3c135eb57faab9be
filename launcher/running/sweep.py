"""A sweep: which jobs there are, what varies between them, and how each of them ended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from launcher.config.text import quoted
from launcher.problems import Problem, Refused
from launcher.records.run_dir import portable_override
from launcher.request.request import Request
from launcher.wording import shorten

DONE, FAILED, REFUSED, KEPT = "done", "failed", "refused", "kept"


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
        denoise: float = self.made["times"]["denoise"]
        return denoise / (self.request.config.steps * len(self.made["files"]))


class Sweep:
    """The jobs of one command line, in Hydra's order."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs
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


def pairs(words: list[str]) -> list[tuple[str, str]]:
    """The settings of a job and their values, as they are shown."""
    split = (word.partition("=") for word in words)
    return [(key.lstrip("+"), value if value.startswith(("'", '"')) else _plain(value)) for key, _, value in split]


def _plain(value: str) -> str:
    """A value without the backslashes that Hydra's sweeper puts before spaces and signs."""
    return re.sub(r"\\([\\()\[\]{}:=, \t])", r"\1", value)
