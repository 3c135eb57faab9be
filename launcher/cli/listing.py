"""A listing of runs: its columns, the filters that are typed, and how it is shown."""

from __future__ import annotations

import csv
import fnmatch
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from launcher.config.text import fields
from launcher.problems import Problem, Refused, choices, nearest
from launcher.records.record import cp_option
from launcher.records.runs import STATUSES, Run
from launcher.wording import shorten

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
CONTAINED = ("prompt", "reason")  # columns that a filter looks into
COLUMNS: dict[str, Callable[[Run], Any]] = {
    "started": lambda run: run.started.isoformat() if run.started else None,
    "run": lambda run: run.folder,
    "status": lambda run: run.status,
    "model": lambda run: run.setting("model.name"),
    "cp": lambda run: cp_option(run.setting("cp")),
    "degrees": lambda run: _degrees(run),
    "ranks": lambda run: run.setting("runtime.processes"),
    "size": lambda run: _size(run),
    "frames": lambda run: run.setting("frames"),
    "steps": lambda run: run.setting("steps"),
    "seed": lambda run: run.data.get("seed"),
    "s/step": lambda run: run.step,
    "MiB": lambda run: None if run.peak is None else round(run.peak / 2**20),
    "seconds": lambda run: run.data.get("seconds"),
    "pictures": lambda run: len(found) if isinstance(found := run.data.get("files"), list) else None,
    "kernel": lambda run: run.data.get("kernel"),
    "attention": lambda run: run.setting("attention.kernel"),
    "dtype": lambda run: run.setting("runtime.dtype"),
    "runtime": lambda run: run.setting("runtime.device"),
    "devices": lambda run: _devices(run),
    "output": lambda run: run.setting("output.format"),
    "commit": lambda run: found.get("commit") if isinstance(found := run.data.get("checkout"), dict) else None,
    "prompt": lambda run: run.prompt,
    "reason": lambda run: run.reason,
}
SHOWN = ("started", "run", "status", "model", "cp", "degrees", "size", "steps", "seed", "s/step", "MiB", "prompt")
WIDEST = {"prompt": 40, "reason": 80, "run": 60}


def _degrees(run: Run) -> str | None:
    ring, ulysses = run.setting("cp.ring_degree"), run.setting("cp.ulysses_degree")
    return f"{ring} x {ulysses}" if ring and ulysses else None


def _size(run: Run) -> str | None:
    height, width = run.setting("height"), run.setting("width")
    return f"{height} x {width}" if height and width else None


def _devices(run: Run) -> str | None:
    found = run.data.get("devices")
    return ", ".join(sorted({str(name) for name in found})) if isinstance(found, list) else None


def column(name: str, word: str = "") -> Callable[[Run], Any]:
    """What a column, or a setting by its dotted name, holds.

    Args:
        word: the filter that names it.

    Raises:
        Refused: it is none.
    """
    if name in COLUMNS:
        return COLUMNS[name]
    if name in fields():
        return lambda run: run.setting(name)
    near = nearest(name, [*COLUMNS, *fields()])
    rule = f"unknown column; choose from {', '.join(COLUMNS)}, or a setting such as cp.schedule"
    value = word.partition("=")[2]
    near = [f"{one}={value}" for one in near] if word else near
    raise Refused([Problem(word or name, rule, f"type {choices(near)}" if near else "type --help for the settings")])


def filters(words: Iterable[str]) -> list[Callable[[Run], bool]]:
    """What a run has to be, of words such as `model=flux`, `seed=1,2`, `prompt=cat` and `since=7d`.

    Raises:
        Refused: a word that is none.
    """
    found, problems = [], []
    for word in words:
        try:
            found.append(_filter(word))
        except Refused as refused:
            problems += refused.problems
    if problems:
        raise Refused(problems)
    return found


def _filter(word: str) -> Callable[[Run], bool]:
    key, sign, value = word.partition("=")
    if not sign:
        raise Refused([Problem(word, "no such folder, and not a filter", "type model=NAME, status=failed, since=7d")])
    if key in ("since", "before"):
        moment = _moment(word, value)
        return lambda run: run.started is not None and (run.started >= moment) == (key == "since")
    told = column(key, word)
    wanted = [text.strip() for text in value.split(",")]
    if key == "status" and (unknown := [text for text in wanted if text not in STATUSES]):
        best = nearest(unknown[0], STATUSES, 1) or list(STATUSES[:1])
        rule = f"unknown status; choose from {', '.join(STATUSES)}"
        raise Refused([Problem(word, rule, f"type status={best[0]}")])
    return lambda run: any(_is(told(run), text, key in CONTAINED) for text in wanted)


def _is(value: Any, wanted: str, contained: bool) -> bool:
    """Whether a value is what was typed: a number by its value, a text whatever its case, with * and ? for others."""
    if value is None:
        return wanted.lower() == "null"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(wanted) == value
        except ValueError:
            return False
    text, pattern = str(value).casefold(), wanted.casefold()
    return pattern in text or fnmatch.fnmatchcase(text, pattern) if contained else fnmatch.fnmatchcase(text, pattern)


def _moment(word: str, value: str) -> datetime:
    """A moment in UTC: so long ago (`7d`), or a date."""
    if ago := re.fullmatch(r"(\d{1,6})([mhdw])", value):
        return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise Refused([Problem(word, "neither so long ago nor a date", "type since=7d or since=2026-01-31")]) from None
    return at.astimezone(UTC)


def ordered(runs: Iterable[Run], by: str | None) -> list[Run]:
    """Newest first; or by a column, the smallest first and what has none last."""
    if by is None:
        return sorted(runs, key=lambda run: (str(COLUMNS["started"](run) or ""), run.folder), reverse=True)
    told = column(by)

    def place(run: Run) -> tuple[int, float, str]:
        value = told(run)
        if isinstance(value, (int, float)):
            return 0, float(value), ""
        return (2, 0.0, "") if value is None else (1, 0.0, str(value))

    return sorted(runs, key=place)


def rows(runs: Iterable[Run], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Each run's columns as data."""
    told = {name: column(name) for name in names}
    return ({name: value(run) for name, value in told.items()} for run in runs)


def as_json(runs: Iterable[Run], names: Sequence[str]) -> str:
    """The listing as JSON, one object a run."""
    return json.dumps(list(rows(runs, names)), indent=2)


def as_csv(runs: Iterable[Run], names: Sequence[str]) -> str:
    """The listing as CSV (RFC 4180). A text that a spreadsheet would take for a formula is quoted by a '."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows(runs, names))
    return text.getvalue().rstrip("\n")


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    formula = value.startswith(("=", "+", "-", "@", "\t", "\r"))
    text = "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in value)
    return f"'{text}" if formula else text


def as_table(runs: Sequence[Run], names: Sequence[str]) -> str:
    """The listing for the screen; what a broken or failed run says stands in place of its prompt."""
    lines = [list(names)]
    for run, row in zip(runs, rows(runs, names), strict=True):
        if "prompt" in row and run.reason:
            row["prompt"] = run.reason
        lines.append([shown(name, value) for name, value in row.items()])
    widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "started":
        return datetime.fromisoformat(value).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return shorten(text, WIDEST.get(name, 40))
