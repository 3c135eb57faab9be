"""What varies in a sweep, and how an earlier one is resumed."""

import json
from pathlib import Path

import pytest

from launcher.problems import Refused
from launcher.running.sweep import DONE, FAILED, KEPT, Job, Sweep, pairs, recorded, resume


def sweep(*words: str) -> Sweep:
    return Sweep([Job(["steps=2", word]) for word in words])


def earlier(folder: Path, *words: str) -> Path:
    for number, word in enumerate(words):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "0000.png").touch()
        record = {"status": "done", "overrides": ["steps=2", word], "files": [{"file": "0000.png"}]}
        (folder / str(number) / "run.json").write_text(json.dumps(record))
    return folder


def change(folder: Path, **fields: object) -> None:
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | fields))


def test_what_varies():
    made = sweep("seed=1", "seed=2", "seed=1")
    assert made.varied == {"seed": ["1", "2"]}
    assert made.varying(made.jobs[1]) == "seed=2"
    assert Sweep([Job(["prompt=a", "x=1"]), Job(["prompt=b", "x=1"])]).whole("prompt") == '"a, b"'


def test_values_are_shown_without_hydras_backslashes():
    assert pairs(["+prompt=a\\ cat\\, b", 'x="a\\b"']) == [("prompt", "a cat, b"), ("x", '"a\\b"')]


def test_what_did_not_end_in_pictures_failed():
    made = sweep("seed=1", "seed=2")
    made.jobs[0].status, made.jobs[1].status = DONE, KEPT
    assert not made.failed
    made.jobs[1].fail(FAILED, "rank 0:\n gone")
    assert made.failed
    assert made.jobs[1].reason == "rank 0: gone"


def test_what_is_done_is_kept_and_the_rest_is_moved_aside(tmp_path):
    words = ["seed=1", "seed=2", "seed=3"]
    folder, again = earlier(tmp_path, *words), sweep(*words)
    change(folder / "1", status="failed")
    (folder / "2" / "run.json").write_text("{")
    (folder / "1.failed1").mkdir()
    resume(again, folder)
    assert [job.status for job in again.jobs] == [KEPT, "", ""]
    assert again.pictures() == [(folder / "0" / "0000.png", "seed=1")]
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1.failed1", "1.failed2", "2.failed1"]


@pytest.mark.parametrize("words", [["seed=1", "seed=3"], ["seed=2", "seed=1"]])
def test_another_sweep_is_refused_and_nothing_is_moved(tmp_path, words):
    folder = earlier(tmp_path, "seed=1", "seed=2")
    change(folder / "0", status="failed")
    with pytest.raises(Refused, match="give the same settings"):
        resume(sweep(*words), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1"]


def test_a_folder_that_holds_no_sweep(tmp_path):
    with pytest.raises(Refused, match="earlier sweep"):
        resume(sweep("seed=1"), tmp_path)
    with pytest.raises(Refused, match="earlier sweep"):
        resume(sweep("seed=1"), tmp_path / "none")


def test_what_a_record_keeps_of_a_jobs_words():
    words = ["steps=2", "model.path=/home/me/x", "resume=y", "hydra.sweep.dir=z", "fail_fast=true"]
    assert recorded(words) == ["steps=2", "model.path=.../x"]
