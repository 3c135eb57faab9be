"""What varies in a sweep, and how an earlier one is resumed."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from shared import a_record

from launcher import codec
from launcher.problems import Refused
from launcher.records.record import File, read_record
from launcher.running.hold import held
from launcher.running.sweep import DONE, FAILED, KEPT, REFUSED, Job, Sweep, pairs, recorded, refusal, resume

PIXELS = b"not looked into"
PICTURE = File("0000.png", hashlib.sha256(PIXELS).hexdigest(), len(PIXELS), 8, 8, 1, 0)


def sweep(folder: Path, *words: str) -> Sweep:
    return Sweep([Job(["steps=2", word], folder=folder / str(number)) for number, word in enumerate(words)])


def earlier(folder: Path, *words: str) -> Path:
    for number, word in enumerate(words):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "0000.png").write_bytes(PIXELS)
        change(folder / str(number), overrides=("steps=2", word))
    return folder


def change(folder: Path, **fields: Any) -> None:
    path = folder / "run.json"
    record = read_record(path) if path.exists() else a_record(status="done", files=(PICTURE,))
    path.write_text(codec.dumps(dataclasses.replace(record, **fields)))


def test_what_varies():
    made = sweep(Path("x"), "seed=1", "seed=2", "seed=1")
    assert made.varied == {"seed": ["1", "2"]}
    assert made.varying(made.jobs[1]) == "seed=2"
    assert Sweep([Job(["prompt=a", "x=1"]), Job(["prompt=b", "x=1"])]).whole("prompt") == '"a, b"'


def test_text_is_shown_without_the_quotes_that_hydra_needs():
    words = ['+prompt="a cat, b"', 'prompt="say \\"x\\""', "prompt=plain", "cp=ring", 'hydra.x="y"']
    assert pairs(words) == [
        ("prompt", "a cat, b"),
        ("prompt", 'say "x"'),
        ("prompt", "plain"),
        ("cp", "ring"),
        ("hydra.x", '"y"'),
    ]


def test_what_did_not_end_in_pictures_failed():
    made = sweep(Path("x"), "seed=1", "seed=2")
    made.jobs[0].status, made.jobs[1].status = DONE, KEPT
    assert not made.failed
    made.jobs[1].fail(REFUSED, "no")
    assert made.failed
    assert not Sweep(made.jobs, allow_refused=True).failed
    assert Sweep(made.jobs[1:], allow_refused=True).failed  # there is nothing to show
    made.jobs[1].fail(FAILED, "rank 0:\n gone")
    assert made.failed
    assert Sweep(made.jobs, allow_refused=True).failed
    assert made.jobs[1].reason == "rank 0: gone"


def test_what_is_done_is_kept_and_the_rest_is_moved_aside(tmp_path):
    words = ["seed=1", "seed=2", "seed=3"]
    folder, again = earlier(tmp_path, *words), sweep(tmp_path, *words)
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
        resume(sweep(folder, *words), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("running", "whose launcher was killed"),
        ("interrupted", "which was interrupted"),
        ("failed", "which failed"),
        ("done", "whose pictures are missing or changed"),
    ],
)
def test_it_is_told_how_an_earlier_try_ended(tmp_path, status, said):
    folder = earlier(tmp_path, "seed=1")
    change(folder / "0", status=status)
    (folder / "0" / "0000.png").unlink()
    again = sweep(folder, "seed=1")
    resume(again, folder)
    assert again.jobs[0].earlier == said
    assert (folder / "0.failed1").is_dir()


def lie(folder: Path, **fields: object) -> None:
    """Write a record that this program would not."""
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | fields))


FILE = {"sha256": PICTURE.sha256, "bytes": PICTURE.bytes, "height": 8, "width": 8, "seed": 1, "prompt": 0}
LIES = {
    "outside": {"files": [FILE | {"file": "../../../../../../etc/passwd"}]},
    "absolute": {"files": [FILE | {"file": "/etc/passwd"}]},
    "none": {"files": []},
    "empty": {"files": [FILE | {"file": ""}]},
    "the folder": {"files": [FILE | {"file": "."}]},
    "a number": {"files": 3},
    "numbers": {"files": [1, 2]},
    "NUL": {"files": [FILE | {"file": "a\0b"}]},
    "a status": {"status": ["done"]},
    "overrides": {"overrides": 7},
}


@pytest.mark.parametrize("name", LIES)
def test_nothing_that_a_record_says_is_trusted(tmp_path, name):
    folder = earlier(tmp_path, "seed=1")
    lie(folder / "0", **LIES[name])
    again = sweep(folder, "seed=1")
    resume(again, folder)
    assert again.jobs[0].status == ""
    assert again.pictures() == []


@pytest.mark.parametrize("text", ["", "3", "null", "[" * 100_000, '{"a":' * 50_000, "\xff", '{"schema": 1e999}'])
def test_a_record_that_is_none_is_run_again(tmp_path, text):
    folder = earlier(tmp_path, "seed=1")
    (folder / "0" / "run.json").write_bytes(text.encode("latin-1"))
    again = sweep(folder, "seed=1")
    resume(again, folder)
    assert again.jobs[0].earlier == "whose record can't be read"


def test_a_record_or_a_picture_that_is_no_file(tmp_path):
    folder = earlier(tmp_path, "seed=1", "seed=2", "seed=3")
    (folder / "0" / "run.json").unlink()
    os.mkfifo(folder / "0" / "run.json")
    (folder / "1" / "0000.png").unlink()
    (folder / "1" / "0000.png").symlink_to("/etc/passwd")
    (folder / "2" / "0000.png").unlink()
    (folder / "2" / "0000.png").mkdir()
    again = sweep(folder, "seed=1", "seed=2", "seed=3")
    resume(again, folder)
    assert [job.status for job in again.jobs] == ["", "", ""]


def test_a_picture_that_was_changed_is_made_again(tmp_path):
    folder = earlier(tmp_path, "seed=1", "seed=2")
    (folder / "0" / "0000.png").write_bytes(PIXELS[:-1])
    (folder / "1" / "0000.png").write_bytes(PIXELS.upper())
    again = sweep(folder, "seed=1", "seed=2")
    resume(again, folder)
    assert [job.earlier for job in again.jobs] == ["whose pictures are missing or changed"] * 2


def test_the_words_of_a_hostile_record_do_not_flood_the_screen(tmp_path):
    folder = earlier(tmp_path, "seed=1")
    change(folder / "0", overrides=("\x1b[31m" + "x" * 1_000_000,))
    with pytest.raises(Refused) as refused:
        resume(sweep(folder, "seed=1"), folder)
    [problem] = refused.value.problems
    assert len(problem.rule) < 1000
    assert "\\x1b[31mxxx" in problem.rule


def test_a_job_that_is_running_is_left_alone(tmp_path):
    folder = earlier(tmp_path, "seed=1")
    change(folder / "0", status="running")
    with held(folder / "0", "x"), pytest.raises(Refused, match="job 0 is running there"):
        resume(sweep(folder, "seed=1"), folder)
    assert (folder / "0").is_dir()


def test_what_a_record_keeps_of_a_jobs_words():
    words = ["steps=2", "model.path=/home/me/x", "resume=y", "hydra.sweep.dir=z", "fail_fast=true"]
    assert recorded(words) == ["steps=2", "model.path=.../x"]


@pytest.mark.parametrize("value", [" /my secret/p.txt", "str(/my/secret/p.txt)", "/my\\ secret/p.txt"])
def test_a_path_is_shortened_as_hydra_reads_it(value):
    [kept] = recorded([f"prompt_file={value}"])
    assert "secret" not in kept
    assert recorded([kept]) == [kept]


def test_a_refusal_is_kept_without_folders_of_this_machine():
    job = Job(["model.path='/home/me/models/x'", "seed=1"])
    job.fail(REFUSED, "model.path=/home/me/models/x: no such folder")
    assert refusal(job) == "model.path=.../x: no such folder"
    job.fail("failed", "rank 1")
    assert refusal(job) == ""
