"""What Slurm's variables say; what its commands say is looked at by tests/distributed/test_slurm.py, where it runs."""

from __future__ import annotations

import os

import pytest

from launcher import slurm
from launcher.problems import Refused
from launcher.slurm import Allocation, Copies, Silent

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


def test_commands_that_are_not_here_or_hang_are_told_by_name(commands, monkeypatch):
    with pytest.raises(Silent, match="cluster=slurm: needs Slurm's commands, and scontrol is not on this machine"):
        slurm.allocation({slurm.JOB: "7"})
    commands("squeue", "exec /bin/sleep 60")
    with pytest.raises(Silent, match=r"squeue has not answered within 0.2 s; type sinfo here, and systemctl status"):
        slurm.ask("squeue", patience=0.2)


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (
            "slurm_load_partitions: Unable to contact slurm controller (connect failure)",
            r"Slurm's controller does not answer \(sinfo: slurm_load_partitions: Unable to contact slurm controller",
        ),
        (
            "sinfo: error: If munged is up, restart with --num-threads=10",
            r"munge, by which Slurm knows who asks, does not work here \(sinfo: If munged is up, restart with",
        ),
        ("slurm_load_jobs error: Protocol authentication error", "Slurm's controller does not believe who asks"),
        ("sinfo: fatal: Could not establish a configuration source", "Slurm's configuration can't be read here"),
    ],
)
def test_a_slurm_that_can_t_be_asked_is_told_by_what_to_look_at(commands, says, told):
    commands("sinfo", f"echo '{says}' >&2; exit 1")
    with pytest.raises(Silent, match=told) as caught:
        slurm.ask("sinfo")
    assert caught.value.problems[0].instead


def test_what_slurm_refuses_is_told_in_its_words(commands):
    commands("sbatch", "echo 'sbatch: error: Requested node configuration is not available' >&2; exit 1")
    with pytest.raises(Refused, match="sbatch says: Requested node configuration is not available") as caught:
        slurm.ask("sbatch")
    assert not isinstance(caught.value, Silent)


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
