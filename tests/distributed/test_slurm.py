"""A Slurm of two nodes on this machine, where Debian's slurm-wlm and munge are installed (tests/slurm/start)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from shared import ROOT, command, hermetic

from launcher.records.record import Record, read_record

pytestmark = pytest.mark.slow

WORDS = ["cluster=slurm", "runtime=cpu", "runtime.threads=1", "height=100", "width=100", "steps=2", "seed=3"]
LONG = ["cp=ring_anything", "height=300", "width=300", "steps=900"]
WHOLE = "FAMILY_SAMPLES" in os.environ
PATIENCE = 300  # seconds; a busy machine starts ranks slowly
TOOLS = ROOT / "tests" / "slurm"


@dataclass
class Slurm:
    """Two nodes, n1 and n2."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        given = hermetic(SLURM_CONF=str(self.folder / "slurm.conf"), OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
        return {name: value for name, value in given.items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}

    def asked(self, *words: str, timeout: float = 30, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A command's end."""
        return subprocess.run(
            words, capture_output=True, text=True, timeout=timeout, env=self.environment, cwd=cwd or self.folder
        )

    def submitted(self, folder: Path, *words: str, minutes: int = 10) -> str:
        """A batch job on both nodes, whose script is the launcher: its number."""
        script = folder / "job.sh"
        script.write_text(f"#!/bin/bash\nexec {' '.join(command(*WORDS, *words))}\n")
        flags = f"--parsable --nodes=2 --no-requeue --time={minutes} --output=job.out --open-mode=append"
        done = self.asked("sbatch", *flags.split(), str(script), cwd=folder)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def ended(self, job: str) -> None:
        """Wait until a job, and all that it has started, is gone."""
        self.wait(lambda: not self.asked("squeue", "--noheader", "--jobs", job).stdout.strip(), f"job {job} ends")

    @staticmethod
    def wait(holds, what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, what
            time.sleep(0.2)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[Slurm]:
    folder = tmp_path_factory.mktemp("slurm")
    with (folder / "start.out").open("w") as out:  # no pipe: the daemons would keep it open
        code = subprocess.run([TOOLS / "start", folder], stdout=out, stderr=out, timeout=120).returncode
    if code == 3:
        pytest.skip((folder / "start.out").read_text().strip())
    try:
        assert code == 0, (folder / "start.out").read_text()
        yield Slurm(folder)
    finally:
        subprocess.run([TOOLS / "stop", folder], timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def output(folder: Path) -> str:
    path = folder / "job.out"
    return path.read_text() if path.exists() else ""


def denoises(slurm: Slurm, folder: Path) -> None:
    slurm.wait(lambda: "denoising" in output(folder), "ranks draw")


def record_of(folder: Path) -> Record:
    (path,) = folder.rglob("run.json")
    return read_record(path)


def picture(folder: Path) -> np.ndarray:
    (path,) = folder.rglob("0000.png")
    return np.asarray(Image.open(path)).astype(int)


def left(folder: Path) -> list[psutil.Process]:
    """Processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(folder):
                found.append(process)
    return found


def test_one_launcher_in_an_allocation_draws_on_all_of_its_nodes(slurm, tmp_path, launch):
    folder = tmp_path / "job"
    folder.mkdir()
    line = ["salloc", "--quiet", "--nodes=2", "--time=10", *command(*WORDS, "cp=ring_anything", "check=true")]
    done = slurm.asked(*line, timeout=PATIENCE, cwd=folder)
    assert done.returncode == 0, done.stderr
    record = record_of(folder)
    assert record.hosts == ("n1", "n2")
    assert record.check.close
    assert record.slurm.id.isdigit()
    assert record.slurm.partition == "both"
    assert record.slurm.queued >= 0
    alone = launch(*WORDS[1:], "cp=none")
    assert abs(picture(folder) - picture(alone.runs[0])).max() <= 1
    slurm.wait(lambda: not left(folder), "nothing is left")


def test_several_launchers_are_one_too_many(slurm, tmp_path):
    done = slurm.asked("srun", "--nodes=2", "--ntasks=2", *command(*WORDS), timeout=PATIENCE, cwd=tmp_path)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("launcher: ")]
    assert said == ["launcher: cluster=slurm: srun started 2 launchers, and one starts all ranks"]
    assert not list(tmp_path.rglob("run.json"))


def test_more_nodes_than_the_allocation_has_are_refused(slurm, tmp_path):
    line = ["salloc", "--quiet", "--nodes=1", *command(*WORDS, "cluster.nodes=2")]
    done = slurm.asked(*line, timeout=PATIENCE, cwd=tmp_path)
    assert done.returncode == 1
    assert "cluster.nodes=2: job " in done.stderr
    assert "has 1 node: n1" in done.stderr


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: takes a minute")
def test_a_job_that_is_cancelled_says_so_and_leaves_nothing(slurm, tmp_path):
    job = slurm.submitted(tmp_path, *LONG)
    denoises(slurm, tmp_path)
    slurm.asked("scancel", job)
    slurm.ended(job)
    slurm.wait(lambda: not left(tmp_path), "nothing is left")
    record = record_of(tmp_path)
    assert record.status in ("interrupted", "failed")  # whoever hears of it first: the launcher, or an agent
    assert f"Slurm job {job} was cancelled" in record.error
    assert f"Slurm job {job} was cancelled" in output(tmp_path)


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: takes two minutes")
def test_a_job_that_reaches_its_time_limit_says_so_and_leaves_nothing(slurm, tmp_path):
    job = slurm.submitted(tmp_path, *LONG, "steps=1000", "images=20", minutes=1)
    slurm.ended(job)
    slurm.wait(lambda: not left(tmp_path), "nothing is left")
    record = record_of(tmp_path)
    assert record.status in ("interrupted", "failed")
    assert f"Slurm job {job} reached its time limit of 00:01:00" in record.error


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: takes a minute")
def test_a_node_whose_daemon_is_killed_is_told_and_resume_goes_on(slurm, tmp_path):
    sweep = ["-m", "cp=ring_anything", "seed=1,2,3", "height=300", "width=300", "steps=200"]
    job = slurm.submitted(tmp_path, *sweep)
    slurm.wait(lambda: list(tmp_path.rglob("0000.png")), "the first picture is drawn")
    psutil.Process(int((slurm.folder / "n2.pid").read_text())).send_signal(signal.SIGKILL)
    slurm.ended(job)
    slurm.wait(lambda: not left(tmp_path), "nothing is left")
    said = output(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("0000.png")}
    assert f"Slurm job {job} ended with its node n2, which is down" in said or len(before) == 3, said
    assert slurm.asked("slurmd", "-N", "n2").returncode == 0
    idle = ("sinfo", "-hp", "both", "-t", "idle", "-o", "%D")
    slurm.wait(lambda: slurm.asked(*idle).stdout.strip() == "2", "n2 is back")
    folder = next(iter(before)).parents[1]
    job = slurm.submitted(tmp_path, *sweep, f"resume={folder}")
    slurm.ended(job)
    after = {path: path.read_bytes() for path in folder.glob("[0-9]/0000.png")}
    assert len(after) == 3, output(tmp_path)
    assert before.items() <= after.items()
