"""The runs below a folder: whole ones, killed ones, and whatever else lies there."""

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest
from shared import a_record

from launcher import codec
from launcher.records.record import File, Record
from launcher.records.runs import BROKEN, KILLED, NAME, Run, find, read
from launcher.running.hold import held, is_held

CONFIG = {"steps": 4, "height": 8, "model": {"name": "flux"}, "cp": {"mode": "ring"}}


def put(folder: Path, **changes) -> Path:
    """A run's folder with such a record."""
    folder.mkdir(parents=True)
    record: Record = a_record(config=CONFIG, **{"status": "done", **changes})
    (folder / NAME).write_text(codec.dumps(record))
    return folder


def listed(folder: Path) -> dict[str, Run]:
    return {run.folder: run for run in find(folder, is_held)}


def test_runs_and_jobs_of_sweeps_are_found(tmp_path):
    put(tmp_path / "day" / "run")
    put(tmp_path / "day" / "sweep" / "0", status="failed", error="rank 1: it broke")
    found = listed(tmp_path)
    assert {name: run.status for name, run in found.items()} == {"day/run": "done", "day/sweep/0": "failed"}
    assert found["day/sweep/0"].reason == "rank 1: it broke"
    assert found["day/run"].setting("model.name") == "flux"
    assert found["day/run"].setting("model.nothing.more") is None


def test_a_run_whose_launcher_is_gone_was_killed(tmp_path):
    folder = put(tmp_path / "run", status="running")
    assert listed(tmp_path)["run"].status == KILLED
    with held(folder, "x"):
        assert listed(tmp_path)["run"].status == "running"
    (folder / NAME).write_text("")  # between the claim and the first record
    assert listed(tmp_path)["run"].status == KILLED


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "is another program's"),
        (b'{"status": "done"}', "is another program's"),
        (b'{"schema": 99, "config": {}}', "schema 99, which a newer version wrote"),
        (b'{"schema": 3, "config": {}, "status": "well"}', "no status that is known"),
    ],
)
def test_a_broken_or_foreign_record_is_a_row_that_says_so(tmp_path, content, said):
    put(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / NAME).write_bytes(content)
    found = listed(tmp_path)
    assert found["good"].status == "done"
    assert found["bad"].status == BROKEN
    assert said in found["bad"].reason


def test_what_is_no_file_is_a_row_too(tmp_path):
    for name, make in (("pipe", os.mkfifo), ("folder", os.mkdir)):
        (tmp_path / name).mkdir()
        make(tmp_path / name / NAME)
    assert {run.status for run in listed(tmp_path).values()} == {BROKEN}


@pytest.mark.parametrize(
    "data", [{"config": 3}, {"files": "x"}, {"times": [1], "step_seconds": 1}, {"peak_bytes": {}}, {"prompts": [3]}]
)
def test_values_of_other_types_are_no_error(tmp_path, data):
    whole = codec.plain(a_record(status="done"))
    (tmp_path / NAME).write_text(json.dumps({**whole, **data}))
    run = read(tmp_path, "x", is_held)
    assert (run.step, run.peak) == (None, None)
    assert isinstance(run.prompt, str)


def test_links_are_not_followed(tmp_path):
    put(tmp_path / "run")
    (tmp_path / "circle").symlink_to(tmp_path)
    assert list(listed(tmp_path)) == ["run"]


def test_the_step_time_is_the_median_or_what_an_older_record_tells(tmp_path):
    put(tmp_path / "new", step_seconds=((9.0, 8.0, 9.0), (1.0, 3.0, 2.0)))
    file = File("0000.png", "ab", 1, 8, 8, 1, 0)
    put(tmp_path / "old", schema=2, files=(file,), times={"denoise": 2.0})
    put(tmp_path / "one", step_seconds=((9.0, 1.0, 3.0, 2.0),))
    put(tmp_path / "single", step_seconds=((9.0,),))
    assert [listed(tmp_path)[name].step for name in ("new", "old", "one", "single")] == [2.0, 0.5, 2.0, 9.0]


@pytest.mark.slow
def test_ten_thousand_runs_are_listed_in_less_than_three_seconds(tmp_path, capsys):
    """CPU seconds, for the machine may be busy; a record as a real run leaves it, of 5 KiB."""
    from launcher.cli.main import main

    config = {
        **CONFIG,
        "model": {"name": "flux", "cp_plan": {str(n): {"dim": 1} for n in range(40)}},
        "rest": "x" * 2000,
    }
    steps = ((0.123456,) * 28,)
    text = codec.dumps(a_record(status="done", config=config, step_seconds=steps, versions={"torch": "2"}))
    for number in range(10_000):
        folder = tmp_path / f"{number // 100}" / f"{number}"
        folder.mkdir(parents=True)
        (folder / NAME).write_text(text)
    began = time.process_time()
    assert main(["runs", str(tmp_path), "model=flux", "--limit", "3"]) == 0
    took = time.process_time() - began
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert took < 3


def test_dataclasses_are_not_built_for_a_listing():
    assert {field.name for field in dataclasses.fields(Run)} == {"path", "folder", "status", "data", "reason"}
