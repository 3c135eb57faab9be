"""How a job stands is written into its folder, and read there; one that Slurm does not tell of is waited for."""

from __future__ import annotations

import pytest

from launcher import slurm
from launcher.problems import Problem, Refused, RunFailed
from launcher.records.run_dir import RunDir
from launcher.running import standing, waiting
from launcher.running.progress import UNSEEN
from launcher.running.standing import Standing, Written, read


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (Standing(False, ""), "waits"),
        (Standing(False, "Resources"), "waits: Resources"),
        (Standing(True, "loading", steps=9, seconds=3.4), "loading, 3 s"),
        (Standing(True, "denoising", 4, 9, 0.1234, 61.0), "denoising step 4 of 9, 0.123 s/step, 61 s"),
    ],
)
def test_how_a_job_stands_in_words(how, told):
    assert str(how) == told


def test_what_a_job_writes_is_read_until_it_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(standing, "EVERY", 0.0)
    run_dir = RunDir(tmp_path)
    run_dir.logs.mkdir()
    assert read(tmp_path) == Standing(True, "starting")
    written = Written(run_dir, 7, UNSEEN)
    written.at("loading")
    assert (read(tmp_path).what, read(tmp_path).step) == ("loading", 0)
    for _ in range(3):
        written.step()
    found = read(tmp_path)
    assert (found.what, found.step, found.steps) == ("denoising", 3, 7)
    written.close()
    assert read(tmp_path) == Standing(True, "starting")
    assert not list(run_dir.logs.iterdir())


def test_a_folder_that_is_gone_ends_no_job(tmp_path):
    written = Written(RunDir(tmp_path / "gone"), 7, UNSEEN)
    written.at("loading")
    written.close()


def test_a_slurm_that_does_not_answer_is_told_once_and_given_up_after_long(monkeypatch):
    notes = []
    patience = waiting.Patience("job 7 may go on", notes.append)

    def silent():
        raise slurm.Silent([Problem("cluster=slurm", "the controller does not answer")])

    assert patience.asked(silent) is patience.asked(silent) is None
    assert patience.asked(lambda: "RUNNING") == "RUNNING"
    assert [note.partition(";")[0] for note in notes] == [
        "cluster=slurm: the controller does not answer",
        "Slurm answers again",
    ]
    monkeypatch.setattr(waiting, "DEAF", -1.0)
    with pytest.raises(RunFailed, match="the controller does not answer; job 7 may go on"):
        patience.asked(silent)


def test_elements_of_an_array_stand_as_slurm_says(monkeypatch):
    said = "0 RUNNING None\n3 PENDING Resources\n"
    monkeypatch.setattr(slurm, "ask", lambda *_: said)
    assert slurm.elements("7") == {0: "RUNNING None", 3: "PENDING Resources"}

    def forgotten(*_):
        raise Refused([Problem("cluster=slurm", "squeue says: slurm_load_jobs error: Invalid job id specified")])

    monkeypatch.setattr(slurm, "ask", forgotten)
    assert slurm.elements("7") == {}


def test_an_element_is_asked_for_by_its_own_name(monkeypatch):
    monkeypatch.setenv(slurm.JOB, "7")
    assert slurm.own() == "7"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert slurm.own() == "7_3"
