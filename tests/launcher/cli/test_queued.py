"""What waits in Slurm's queue is listed as Slurm knows it."""

from __future__ import annotations

from pathlib import Path

from launcher import slurm
from launcher.cli.queued import looked_at
from launcher.problems import Problem, Refused
from launcher.records.runs import Run


def test_a_job_that_is_gone_waits_no_more(monkeypatch):
    runs = [
        Run(Path("a"), "a", "queued", {"slurm": {"id": "7"}}, ""),
        Run(Path("b"), "b", "queued", {"slurm": {"id": "8"}}, ""),
        Run(Path("c"), "c", "queued", {"slurm": {"id": "8; rm"}}, ""),
        Run(Path("d"), "d", "done", {"slurm": {"id": "7"}}, ""),
    ]
    monkeypatch.setattr(slurm, "state", {"7": "", "8": "PENDING Resources"}.__getitem__)
    found = list(looked_at(runs))
    assert [run.status for run in found] == ["killed", "queued", "queued", "done"]
    assert found[0].reason == "Slurm job 7 is gone"


def test_where_slurm_does_not_answer_the_record_is_shown(monkeypatch):
    asked = []

    def state(number: str) -> str:
        asked.append(number)
        raise Refused([Problem("cluster=slurm", "squeue did not answer within 10 s", "type sinfo")])

    monkeypatch.setattr(slurm, "state", state)
    runs = [Run(Path(name), name, "queued", {"slurm": {"id": "7"}}, "") for name in "ab"]
    assert list(looked_at(runs)) == runs
    assert asked == ["7"]
