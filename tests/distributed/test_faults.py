"""Faults with real ranks: one line that names the rank and the cause, a record that tells the truth, nothing left."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from shared import ROOT, command, hermetic

from launcher.weights import BUNDLED

LONG = ["cp=ring_anything", "runtime=cpu", "height=128", "width=128", "steps=20000", "seed=1"]


def ranks(parent: psutil.Process) -> dict[int, psutil.Process]:
    """The worker processes below the launcher, by rank."""
    found = {}
    for process in parent.children(recursive=True):
        try:
            if process.cmdline()[-1] == "launcher.worker" and "-m" in process.cmdline()[-3:-1]:
                found[int(process.environ().get("RANK", "0"))] = process
        except (psutil.Error, IndexError):
            continue
    return found


def wait(condition: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


class Running:
    """A launcher that is at work."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            command(*words), cwd=folder, env=hermetic(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.parent = psutil.Process(self.process.pid)
        self.seen: list[psutil.Process] = []

    def until(self, stage: str) -> None:
        """Wait until the screen shows a stage."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if stage in line:
                break
        self.seen = self.parent.children(recursive=True)

    def end(self, timeout: float = 30) -> tuple[int, str, dict]:
        """Exit code, standard error and run.json; no process that was seen is left."""
        _, err = self.process.communicate(timeout=timeout)
        _, alive = psutil.wait_procs(self.seen, timeout=5)
        assert alive == []
        (record,) = self.folder.rglob("run.json")
        return self.process.returncode, err, json.loads(record.read_text())


@pytest.fixture
def start(tmp_path):
    running: list[Running] = []

    def run(*words: str) -> Running:
        running.append(Running(tmp_path, *words))
        return running[-1]

    yield run
    for one in running:
        for process in [*one.seen, one.parent]:
            if process.is_running():
                process.kill()


@pytest.mark.parametrize("stage", ["importing", "denoising"])
def test_a_killed_rank_ends_the_run(start, stage):
    run = start(*LONG)
    run.until(stage)
    ranks(run.parent)[1].kill()
    began = time.monotonic()
    code, err, record = run.end()
    assert time.monotonic() - began < 10
    assert code == 1
    assert next(line for line in err.splitlines() if line.startswith("launcher:")).startswith(
        "launcher: rank 1: killed by SIGKILL"
    )
    assert "Traceback" not in err
    assert record["status"] == "failed"
    assert record["error"].startswith("rank 1: killed by SIGKILL")
    assert str(run.folder) not in record["error"]


def cause(err: str) -> str:
    """The one line that says what ended the run."""
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("launcher:")]
    return line


def test_a_rank_that_segfaults_is_named(start):
    run = start(*LONG)
    run.until("denoising")
    ranks(run.parent)[0].send_signal(signal.SIGSEGV)
    _, err, record = run.end()
    assert "rank 0: killed by SIGSEGV" in cause(err)
    assert record["status"] == "failed"


def test_a_rank_that_runs_out_of_memory_is_named(start):
    """A real limit: from now on the rank gets no more address space than it has."""
    run = start("cp=ring_anything", "runtime=cpu", "height=1024", "width=1024", "steps=500", "seed=1")
    run.until("denoising")
    rank = ranks(run.parent)[1]
    resource.prlimit(rank.pid, resource.RLIMIT_AS, (rank.memory_info().rss // 2,) * 2)
    _, err, record = run.end(timeout=60)
    assert "rank 1: " in cause(err)
    assert "memory" in cause(err)
    assert record["status"] == "failed"


def test_a_stopped_rank_is_a_stall(start):
    run = start(*LONG, "runtime.stall_timeout=4")
    run.until("denoising")
    ranks(run.parent)[1].suspend()
    began = time.monotonic()
    _, err, record = run.end()
    assert time.monotonic() - began < 15
    assert "rank 1: no sign of life within runtime.stall_timeout=4 s" in cause(err)
    assert record["status"] == "failed"


def test_a_killed_agent_ends_the_run(start):
    run = start(*LONG)
    run.until("denoising")
    (agent,) = run.parent.children()
    agent.kill()
    _, err, record = run.end()
    assert "the process that starts the ranks: killed by SIGKILL" in cause(err)
    assert record["status"] == "failed"


def test_a_second_ctrl_c_changes_nothing(start):
    run = start(*LONG)
    run.until("denoising")
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    run.process.send_signal(signal.SIGINT)
    code, _, record = run.end()
    assert (code, record["status"]) == (130, "interrupted")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_run_and_the_record_says_interrupted(start, signum, code):
    run = start(*LONG)
    run.until("denoising")
    run.process.send_signal(signum)
    ended, err, record = run.end()
    assert ended == code
    assert f"interrupted by {signum.name}" in err
    assert "Traceback" not in err
    assert record["status"] == "interrupted"


def test_a_killed_launcher_leaves_no_ranks(start):
    run = start(*LONG)
    run.until("denoising")
    assert len(ranks(run.parent)) == 2
    run.process.kill()
    _, alive = psutil.wait_procs(run.seen, timeout=10)
    assert alive == []


def test_a_rank_that_raises_is_named_with_its_cause(launch, tmp_path):
    model = shutil.copytree(BUNDLED, tmp_path / "broken")
    config = json.loads((model / "transformer" / "config.json").read_text())
    (model / "transformer" / "config.json").write_text(json.dumps(config | {"num_layers": 7}))
    ended = launch("cp=ring_anything", "runtime=cpu", f"model.path={model}", "height=64", "width=64")
    assert ended.code == 1
    (line,) = [line for line in ended.err.splitlines() if line.startswith("launcher:")]
    assert line.startswith("launcher: rank ")
    assert "logs/rank" in line
    record = json.loads((ended.runs[0] / "run.json").read_text())
    assert record["status"] == "failed"
    assert "Traceback" in "".join(log.read_text() for log in (ended.runs[0] / "logs").iterdir())


def test_a_disk_that_is_full_while_saving_leaves_no_half_picture(tmp_path):
    """A limit on the size of files makes the write fail as a full disk does: part of it is written, then an OSError."""
    result = subprocess.run(
        command("cp=none", "runtime=cpu", "steps=1", "height=512", "width=512"),
        cwd=tmp_path,
        env=hermetic(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000)),
    )
    assert result.returncode == 1
    assert "rank 0: File too large" in result.stderr
    assert "Traceback" not in result.stderr
    (record,) = tmp_path.rglob("run.json")
    assert json.loads(record.read_text())["status"] == "failed"
    assert not [file for file in tmp_path.rglob("*") if file.suffix in (".png", ".tmp")]


def test_two_runs_of_the_same_second_have_folders_of_their_own(tmp_path):
    words = command("cp=none", "runtime=cpu", "steps=1", "height=16", "width=16", "hydra.run.dir=outputs/same")
    running = [
        subprocess.Popen(words, cwd=tmp_path, env=hermetic(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(process.communicate(timeout=120)[1], process.returncode) for process in running]
    assert sorted(code for _, code in ended) == [0, 1]  # a folder that is forced on both serves one of them
    assert any("holds a run already" in err for err, _ in ended)
    assert len(list(tmp_path.rglob("*.png"))) == 1


def test_the_tests_run_this_checkout():
    import launcher

    assert Path(launcher.__file__).parent == ROOT / "launcher"
