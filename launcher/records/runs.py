"""The runs below a folder, read from their run.json: there is no other log.

A listing looks at ten thousand records, so it takes from each what it shows and checks that alone. A folder that holds
something else, or a broken record, is a row that says so.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from launcher.reading import UnreadableError, read_bytes
from launcher.records.record import MAX_RECORD, SCHEMA, step_time

NAME = "run.json"
KILLED, BROKEN = "killed", "broken"
STATUSES = ("done", "failed", "interrupted", "running", "queued", KILLED, BROKEN)
DEEPEST = 8  # folders below the one that is listed


@dataclass(frozen=True)
class Run:
    """A row of a listing.

    Args:
        folder: below the one that is listed, as it is shown.
        status: as recorded; `killed` for one whose launcher is gone, `broken` for what can't be read.
        data: run.json, as it is; {} where it can't be read.
        reason: why it is broken, or what it failed of.
    """

    path: Path
    folder: str
    status: str
    data: dict[str, Any]
    reason: str = ""

    @property
    def started(self) -> datetime | None:
        """When, in UTC."""
        with contextlib.suppress(ValueError, TypeError):
            at = datetime.fromisoformat(self.data["started"]) if "started" in self.data else None
            return at if at is None or at.tzinfo else at.replace(tzinfo=UTC)
        return None

    def setting(self, name: str) -> Any:
        """A setting of its configuration by the dotted name; None where there is none."""
        part: Any = self.data.get("config")
        for key in name.split("."):
            part = part.get(key) if isinstance(part, dict) else None
        return part

    @property
    def step(self) -> float | None:
        """Seconds of a denoising step, as `step_time` has it."""
        timed = [_numbers(each) for each in _list(self.data.get("step_seconds"))]
        if (found := step_time(timed, bool(self.skipped))) is not None:
            return found
        times, count = self.data.get("times"), self.setting("steps")  # schema 2 and older
        done = _numbers([times.get("denoise")] if isinstance(times, dict) else None)
        made = len(_list(self.data.get("files")))
        return done[0] / (count * made) if done and isinstance(count, int) and count > 0 and made else None

    @property
    def skipped(self) -> int:
        """Denoising steps of its first picture that a cache stood in for, in whole or in part."""
        return len(_list(next(iter(_list(self.data.get("skipped_steps"))), None)))

    @property
    def peak(self) -> int | None:
        """Bytes that its fullest rank held."""
        return max((size for size in _list(self.data.get("peak_bytes")) if isinstance(size, int)), default=None)

    @property
    def prompt(self) -> str:
        """Its first prompt."""
        return next((text for text in _list(self.data.get("prompts")) if isinstance(text, str)), "")


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _numbers(value: object) -> list[float]:
    return [item for item in _list(value) if isinstance(item, (int, float)) and not isinstance(item, bool)]


def find(folder: Path, is_held: Callable[[Path], bool]) -> Iterator[Run]:
    """Every run below a folder, in no order.

    Args:
        is_held: whether a launcher works in a folder: what says `running` without one was killed.
    """
    for place in _folders(folder, 0):
        yield read(place, os.path.relpath(place, folder), is_held)


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """Folders with a run.json. What is in them is not looked at; links are not followed, for they may be circles."""
    below = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == NAME:
                    yield folder
                    return
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    below.append(entry.path)
    except OSError:  # another user's, or gone meanwhile
        return
    if depth < DEEPEST:
        for path in below:
            yield from _folders(Path(path), depth + 1)


def read(place: Path, shown: str, is_held: Callable[[Path], bool]) -> Run:
    """One run by its folder; never an error."""
    try:
        content = read_bytes(place / NAME, MAX_RECORD)
        if not content:
            working = is_held(place)
            reason = "starting" if working else "claimed by a launcher that is gone"
            return Run(place, shown, "running" if working else KILLED, {}, reason)
        data = json.loads(content)
    except UnreadableError as error:
        return Run(place, shown, BROKEN, {}, f"{NAME} {error}")
    except RecursionError:
        return Run(place, shown, BROKEN, {}, f"{NAME} is nested too deeply")
    except ValueError:
        return Run(place, shown, BROKEN, {}, f"{NAME} is not JSON")
    if not isinstance(data, dict) or not isinstance(data.get("schema"), int) or "config" not in data:
        return Run(place, shown, BROKEN, {}, f"{NAME} is another program's")
    if data["schema"] > SCHEMA:
        return Run(place, shown, BROKEN, {}, f"{NAME} has schema {data['schema']}, which a newer version wrote")
    status, told = data.get("status"), data.get("error")
    if status not in STATUSES[:5]:
        return Run(place, shown, BROKEN, {}, f"{NAME} has no status that is known")
    if status == "running" and not is_held(place):
        return Run(place, shown, KILLED, data, "its launcher is gone")
    return Run(place, shown, status, data, told if isinstance(told, str) else "")
