"""The columns, filters and forms of a listing."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from launcher.cli import listing
from launcher.cli.listing import COLUMNS, as_csv, as_json, as_table, filters, ordered
from launcher.problems import Refused
from launcher.records.runs import Run

NOW = datetime.now(UTC)


def run(folder: str = "a", ago: float = 0, status: str = "done", reason: str = "", **config: Any) -> Run:
    """A run that started so many hours ago."""
    started = (NOW - timedelta(hours=ago)).isoformat(timespec="seconds")
    settings = {"model": {"name": "flux"}, "cp": {"mode": "ring_anything", "ring_degree": 2, "ulysses_degree": 1}}
    data = {"started": started, "config": {**settings, "steps": 4, **config}, "seed": 1, "prompts": ["A red cat"]}
    return Run(Path(folder), folder, status, data, reason)


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("model=flux", True),
        ("model=FLUX", True),
        ("model=flux_tiny,flux", True),
        ("model=fl*", True),
        ("model=wan", False),
        ("cp=ring_anything", True),
        ("cp.mode=ring", False),
        ("cp.ring_degree=2", True),
        ("steps=4", True),
        ("steps=4.0", True),
        ("steps=4x", False),
        ("seed=1,2", True),
        ("status=failed,done", True),
        ("status=failed", False),
        ("prompt=red", True),
        ("prompt=dog", False),
        ("frames=null", True),
        ("since=7d", True),
        ("since=30m", False),
        ("before=30m", True),
        ("since=2020-01-01", True),
        ("before=2020-01-01", False),
    ],
)
def test_a_filter_keeps_what_it_names(word, kept):
    (test,) = filters([word])
    assert test(run(ago=1)) == kept


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("modl=flux", "type model=flux"),
        ("status=fialed", "type status=failed"),
        ("since=yesterday", "type since=7d or since=2026-01-31"),
        ("nowhere", "no such folder, and not a filter"),
        ("cp.mod=x", "unknown column"),
    ],
)
def test_a_word_that_is_no_filter_is_refused(word, said):
    with pytest.raises(Refused, match=said):
        filters([word])


def test_newest_first_or_by_a_column_with_what_has_none_last():
    runs = [run("old", 3, steps=9), run("new", 1, steps=2), run("none", 2, steps=None)]
    assert [each.folder for each in ordered(runs, None)] == ["new", "none", "old"]
    assert [each.folder for each in ordered(runs, "steps")] == ["new", "old", "none"]


def test_a_table_tells_why_instead_of_a_prompt():
    broken = Run(Path("b"), "b", "broken", {}, "run.json is not JSON \x1b[31m")
    text = as_table([run(), broken], listing.SHOWN)
    head, first, second = text.splitlines()
    assert head.split()[:3] == ["started", "run", "status"]
    assert "2 x 1" in first
    assert "A red cat" in first
    assert second.startswith("-")
    assert "run.json is not JSON" in second
    assert "\x1b" not in text


def test_data_is_read_back_whole():
    runs = [run(prompt=None), Run(Path("b"), "b", "broken", {}, "no")]
    (one, other) = json.loads(as_json(runs, list(COLUMNS)))
    assert (one["cp"], one["steps"], one["degrees"]) == ("ring_anything", 4, "2 x 1")
    assert other == {**dict.fromkeys(COLUMNS), "run": "b", "status": "broken", "prompt": "", "reason": "no"}
    rows = list(csv.DictReader(io.StringIO(as_csv(runs, ["run", "cp", "prompt"]))))
    assert rows == [{"run": "a", "cp": "ring_anything", "prompt": "A red cat"}, {"run": "b", "cp": "", "prompt": ""}]


def test_a_spreadsheet_takes_no_prompt_for_a_formula():
    evil = run()
    evil.data["prompts"] = ['=HYPERLINK("http://x")']
    assert as_csv([evil], ["prompt"]) == 'prompt\n"\'=HYPERLINK(""http://x"")"'
