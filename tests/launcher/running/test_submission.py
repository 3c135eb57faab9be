"""A job script, and what a job reads; tests/distributed/test_slurm.py submits some, where Slurm runs."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from shared import LAPTOP

from launcher import slurm
from launcher.problems import Problem, Refused
from launcher.running import elsewhere, submission
from launcher.running.checked import request_of
from launcher.running.planning import jobs_of

WORDS = ["cluster=slurm", "runtime=cpu", "cp=ring_anything", "machine=h100x8"]


@pytest.fixture(autouse=True)
def outside(monkeypatch):
    for name in (slurm.JOB, slurm.SUBMITTED):
        monkeypatch.delenv(name, raising=False)


def request_for(composer, *words):
    typed = [*WORDS, *words]
    return request_of(composer.compose(typed), typed, LAPTOP)


def test_each_setting_is_in_the_job_script(composer, tmp_path):
    given = {
        "nodes": "3",
        "gpus_per_node": "8",
        "tasks_per_node": "4",
        "timeout_min": "90",
        "partition": "big",
        "account": "me",
        "qos": "high",
        "constraint": "h100",
        "signal_delay_s": "60",
        "setup": "[module load cuda]",
        "additional_parameters": "{mem: 64G, exclusive: true}",
    }
    request = request_for(composer, *(f"cluster.{name}={value}" for name, value in given.items()))
    assert request.mesh.ranks == 12
    text = submission.script(request, tmp_path / "a run")
    for flag in (
        "nodes=3",
        "gpus-per-node=8",
        "ntasks-per-node=4",
        "time=90",
        "partition=big",
        "account=me",
        "qos=high",
        "constraint=h100",
        "signal=B:USR1@60",
        "mem=64G",
        "exclusive",
        "no-requeue",
    ):
        assert f"\n#SBATCH --{flag}\n" in text
    assert "\nmodule load cuda\n" in text
    assert f"-m launcher.cli.job '{tmp_path / 'a run'}'" in text.splitlines()[-1]
    assert subprocess.run(["bash", "-n"], input=text, text=True, timeout=30).returncode == 0


def test_a_job_reads_what_was_composed(composer, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(slurm, "ask", lambda *words, **_: asked.append(words) or "7;here\n")
    prompt = r"a ${now:} \\${x}, {b"
    typed = [*WORDS, f"prompt={prompt}", "seed=5"]
    composed = composer.compose(typed)
    request = request_of(composed, typed, LAPTOP)
    assert submission.submit(composed, request, typed, tmp_path, ["--config-dir", "d"], True) == "7"
    assert asked[0][:3] == ("sbatch", "--parsable", "--hold")
    assert (tmp_path / submission.COMPOSED).stat().st_mode & 0o077 == 0
    given = submission.read(tmp_path)
    assert (given.words, given.options, given.only_check) == (typed, ["--config-dir", "d"], True)
    again = request_of(given.composed, given.words, LAPTOP)
    assert again.prompts == request.prompts == (prompt,)
    runtime = replace(request.config.runtime, processes=2)
    assert again.config == replace(request.config, runtime=runtime)


def test_what_is_not_here_is_refused_by_name(composer, monkeypatch, tmp_path):
    monkeypatch.setattr(submission.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(Refused, match="cluster=slurm: submits a job by the package submitit, which is not installed"):
        submission.needed()
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="needs Slurm's commands, and sbatch is not on this machine"):
        submission.needed()


def test_a_partition_is_as_large_as_slurm_says(composer, monkeypatch):
    rows = "debug*|2|8|64000|gpu:h100:4(S:0-1)\ndebug*|1|4|32000+|gpu:h100:4\nbig|9|16|1000|(null)\n"
    monkeypatch.setattr(slurm, "ask", lambda *_: rows)
    assert slurm.partition(None) == slurm.Partition("debug", 3, 4, 31.25, "h100")
    assert slurm.partition("big").nodes == 9
    config = request_for(composer).config
    config.machine.name = "here"
    config.cluster.nodes, config.cluster.gpus_per_node = 3, 4
    found = elsewhere.of_slurm(config, LAPTOP, elsewhere.Partitions())
    assert (found.nodes, found.cores, len(found.gpus), found.gpus[0].name) == (3, 4, 4, "H100 80GB HBM3")
    config.cluster.nodes = 4
    with pytest.raises(Refused, match=r"cluster.nodes=4: partition debug has 3 nodes; type cluster.nodes=3 or less"):
        elsewhere.of_slurm(config, LAPTOP, elsewhere.Partitions())


def test_inside_of_a_job_its_limits_are_settled(composer, monkeypatch):
    monkeypatch.setenv(slurm.JOB, "7")
    with pytest.raises(Refused, match=r"timeout_min: this is inside of job 7, whose nodes and limits are settled"):
        request_for(composer, "cluster.timeout_min=3")


def silent(monkeypatch, *answered: str):
    """A Slurm whose controller ends when so many of its commands have answered; returns what was asked."""
    asked = []
    left = list(answered)

    def ask(*words, patience=0.0):
        asked.append(words)
        if words[1] == "--version":
            return ""
        if left:
            return left.pop(0)
        raise slurm.Silent([Problem("cluster=slurm", "the controller does not answer", "type sinfo")])

    monkeypatch.setattr(slurm, "ask", ask)
    return asked


def test_a_slurm_that_does_not_answer_hides_no_wrong_value(composer, monkeypatch):
    silent(monkeypatch)
    typed = ["cluster=slurm", "cluster.nodes=0", "runtime=cpu", "steps=0"]
    with pytest.raises(Refused) as caught:
        request_of(composer.compose(typed), typed, LAPTOP)
    told = [problem.value for problem in caught.value.problems]
    assert told == ["steps=0", "cluster.nodes=0", "cluster=slurm"]


def test_a_sweep_asks_a_slurm_that_does_not_answer_once(composer, monkeypatch):
    asked = silent(monkeypatch)
    typed = ["cluster=slurm", "runtime=cpu", "seed=1,2,3", "steps=0,1"]
    with pytest.raises(Refused) as caught:
        jobs_of(composer.compose(typed, sweep=True), typed, composer, LAPTOP)
    assert [problem.value for problem in caught.value.problems] == ["steps=0", "cluster=slurm"]
    assert [words[0] for words in asked] == ["sbatch", "sinfo"]


def test_a_job_that_can_t_be_released_is_cancelled_and_told(monkeypatch):
    asked = silent(monkeypatch, "JobId=7 Partition=both")
    told = "job 7 was submitted and does not start, for the controller does not answer; type sinfo; then scancel 7"
    with pytest.raises(Refused, match=told), submission.held_job("7") as where:
        assert where.partition == "both"
    assert asked[-1] == ("scancel", "7")
