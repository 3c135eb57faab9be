"""What Slurm's variables say; what its commands say is looked at by tests/distributed/test_slurm.py, where it runs."""

from __future__ import annotations

import os

import pytest

from launcher import slurm
from launcher.problems import Refused
from launcher.slurm import Allocation, Copies

TWO = Allocation("7", ("n1", "n2", "n3"), "n2")


def test_this_node_is_the_first_of_those_that_are_taken():
    assert TWO.part(None) == ("n2", "n1", "n3")
    assert TWO.part(2) == ("n2", "n1")
    with pytest.raises(Refused, match=r"cluster.nodes=4: job 7 has 3 nodes: n1, n2, n3; type 3 or less"):
        TWO.part(4)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, Copies(1, 0)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Copies(1, 0)),  # a batch script, of which there is one
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8"}, Copies(8, 3)),
    ],
)
def test_copies_are_counted_by_the_step_that_started_them(given, found):
    assert slurm.copies(given) == found


def test_no_job_is_no_allocation():
    assert slurm.allocation({}) is None


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A folder that holds all commands there are."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        os.chmod(tmp_path / name, 0o755)

    return put


def test_commands_that_are_not_here_fail_or_hang_are_refused_by_name(commands, monkeypatch):
    with pytest.raises(Refused, match="cluster=slurm: needs Slurm's commands, and scontrol is not on this machine"):
        slurm.allocation({slurm.JOB: "7"})
    commands("sinfo", "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(Refused, match="sinfo says: Unable to contact slurm controller"):
        slurm.ask("sinfo")
    monkeypatch.setattr(slurm, "PATIENCE", 0.2)
    commands("squeue", "exec /bin/sleep 60")
    with pytest.raises(Refused, match=r"squeue did not answer within 0.2 s"):
        slurm.ask("squeue")


JOB = "JobState={} StartTime={} TimeLimit=00:01:00 PreemptTime={} NodeList=n1"
DOWN = JOB.format("COMPLETING", "2999-01-01T00:00:00", "None") + " Reason=NodeDown"


@pytest.mark.parametrize(
    ("job", "down", "told"),
    [
        (JOB.format("RUNNING", "2026-01-01T00:00:00", "None"), "", ""),
        (JOB.format("COMPLETING", "2026-01-01T00:00:00", "None"), "", "Slurm job 7 reached its time limit of 00:01:00"),
        (DOWN, "n2", "Slurm job 7 ended with its node n2, which is down"),
        (DOWN, "", "Slurm job 7 ended with one of its nodes, which is down"),
        (JOB.format("PREEMPTED", "2999-01-01T00:00:00", "2999-01-01T00:00:09"), "", "Slurm job 7 was preempted"),
        (JOB.format("CANCELLED", "2999-01-01T00:00:00", "None"), "", "Slurm job 7 was cancelled"),
        ("", "", ""),
    ],
)
def test_why_a_job_ends(commands, monkeypatch, job, down, told):
    monkeypatch.setenv(slurm.JOB, "7")
    commands("scontrol", f"echo '{job}'")
    commands("sinfo", f"echo {down}")
    assert slurm.why_ended() == told
