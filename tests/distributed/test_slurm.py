"""A Slurm of two nodes on this machine, where Debian's slurm-wlm and munge are installed (tests/slurm/start).

Where SLURM_IS_HERE is set, as by .ci/run, it has to come up.
"""

from __future__ import annotations

import contextlib
import os
import re
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
    try:
        if code:
            told = (folder / "start.out").read_text().strip()
            (pytest.fail if "SLURM_IS_HERE" in os.environ else pytest.skip)(told)
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


def test_a_job_draws_on_both_nodes_until_it_is_cancelled_and_leaves_nothing(slurm, tmp_path, launch):
    folder = tmp_path / "job"
    folder.mkdir()
    job = slurm.submitted(folder, "cp=ring_anything", "images=9999")
    slurm.wait(lambda: list(folder.rglob("0000.png")), "the first picture is drawn")
    slurm.asked("scancel", job)
    slurm.ended(job)
    slurm.wait(lambda: not left(folder), "nothing is left")
    record = record_of(folder)
    assert (record.hosts, record.slurm.id, record.slurm.partition) == (("n1", "n2"), job, "both")
    assert record.slurm.queued >= 0
    assert record.status in ("interrupted", "failed")  # whoever hears of it first: the launcher, or an agent
    assert f"Slurm job {job} was cancelled" in record.error
    assert f"Slurm job {job} was cancelled" in output(folder)
    alone = launch(*WORDS[1:], "cp=none")
    assert abs(picture(folder) - picture(alone.runs[0])).max() <= 1


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: takes half a minute")
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


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: takes three seconds")
def test_more_nodes_than_the_allocation_has_are_refused(slurm, tmp_path):
    line = ["salloc", "--quiet", "--nodes=1", *command(*WORDS, "cluster.nodes=2")]
    done = slurm.asked(*line, timeout=PATIENCE, cwd=tmp_path)
    assert done.returncode == 1
    assert "cluster.nodes=2: job " in done.stderr
    assert "has 1 node: n1" in done.stderr


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


def submitted(slurm: Slurm, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The launcher on a machine outside of any allocation, which submits a job and leaves or waits."""
    folder.mkdir(exist_ok=True)
    return slurm.asked(*command(*WORDS, "cp=ring_anything", "cluster.nodes=2", *words), timeout=PATIENCE, cwd=folder)


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: takes a minute")
def test_a_run_is_submitted_waited_for_and_as_if_it_were_here(slurm, tmp_path, launch):
    done = submitted(slurm, tmp_path / "job", "prompt=red dots ${x}")
    assert done.returncode == 0, done.stderr
    assert "red dots ${x}" in done.stdout
    assert "picture    outputs/" in done.stdout
    record = record_of(tmp_path / "job")
    assert (record.status, record.hosts, record.slurm.partition) == ("done", ("n1", "n2"), "both")
    assert record.slurm.queued is not None
    (script,) = (tmp_path / "job").rglob("job.sh")
    assert "#SBATCH --nodes=2" in script.read_text()
    alone = launch(*WORDS[1:], "cp=none", "prompt=red dots ${x}")
    assert abs(picture(tmp_path / "job") - picture(alone.runs[0])).max() <= 1


def test_what_the_partition_does_not_have_is_refused_before_anything(slurm, tmp_path):
    for word, told in (
        ("cluster.nodes=3", "cluster.nodes=3: partition both has 2 nodes\n          type cluster.nodes=2 or less"),
        ("cluster.partition=bth", "cluster.partition=bth: unknown partition; choose from both, one"),
        ("cluster.account=nobody cluster.additional_parameters={gres: gold}", "cluster=slurm: sbatch says: "),
    ):
        done = submitted(slurm, tmp_path / "job", *word.split(" ", 1))
        assert done.returncode == 1
        assert told in done.stderr
    assert not [path for path in (tmp_path / "job").rglob("*") if path.is_file()]


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: waits for a controller that does not answer")
@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        (r"SlurmctldPort=\d+", "SlurmctldPort=1", "Slurm's controller does not answer (sinfo: "),
        ("munge.socket", "gone.socket", "munge, by which Slurm knows who asks, does not work here (sinfo: "),
    ],
)
def test_a_slurm_that_does_not_answer_is_told_after_a_wrong_number(slurm, tmp_path, was, becomes, told):
    conf = tmp_path / "slurm.conf"
    conf.write_text(re.sub(was, becomes, (slurm.folder / "slurm.conf").read_text()))
    environment = slurm.environment | {"SLURM_CONF": str(conf)}
    line = command(*WORDS, "cluster.nodes=0")
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, env=environment, cwd=tmp_path)
    assert done.returncode == 1
    said = [one for one in done.stderr.splitlines() if one.startswith("launcher: ")]
    assert said[0] == "launcher: cluster.nodes=0: must be at least 1"
    assert said[1].startswith(f"launcher: cluster=slurm: {told}")
    assert len(said) == 2


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: takes a minute")
def test_a_job_that_nobody_waits_for_is_told_by_its_folder(slurm, tmp_path):
    folder = tmp_path / "job"
    blocking = slurm.asked("sbatch", "--parsable", "--nodes=2", "--exclusive", "--wrap=sleep 600").stdout.strip()
    done = submitted(slurm, folder, "cluster.wait=false")
    assert done.returncode == 0, done.stderr
    queued = record_of(folder)
    assert queued.status == "queued"
    assert queued.files == ()
    assert f"job        {queued.slurm.id} of Slurm" in done.stdout
    slurm.asked("scancel", blocking)
    slurm.ended(queued.slurm.id)
    assert record_of(folder).status == "done", (folder / "outputs").rglob("job.out")


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: takes a minute")
def test_who_waits_is_told_of_a_job_that_is_cancelled_in_the_queue(slurm, tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    blocking = slurm.asked("sbatch", "--parsable", "--nodes=2", "--exclusive", "--wrap=sleep 600").stdout.strip()
    line = command(*WORDS, "cp=ring_anything", "cluster.nodes=2")
    with (tmp_path / "out").open("w") as out:
        waiting = subprocess.Popen(line, cwd=folder, env=slurm.environment, stdout=out, stderr=out)
    try:
        said = lambda: (tmp_path / "out").read_text()  # noqa: E731
        slurm.wait(lambda: "waits: " in said() or waiting.poll() is not None, "it waits")
        job = record_of(folder).slurm.id
        slurm.asked("scancel", job)
        assert waiting.wait(PATIENCE) == 1
        assert f"launcher: Slurm job {job} ended before its run did" in said()
        assert record_of(folder).status == "failed"
    finally:
        waiting.kill()
        waiting.wait(30)
        slurm.asked("scancel", blocking)


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: takes a minute")
def test_a_ctrl_c_while_waiting_cancels_the_job(slurm, tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    line = command(*WORDS, "cp=ring_anything", "cluster.nodes=2", "steps=900", "height=300", "width=300")
    with (tmp_path / "out").open("w") as out:
        waiting = subprocess.Popen(line, cwd=folder, env=slurm.environment, stdout=out, stderr=out)
    try:
        slurm.wait(lambda: "denoising" in (tmp_path / "out").read_text(), "ranks draw")
        job = record_of(folder).slurm.id
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(PATIENCE) == 128 + signal.SIGINT
    finally:
        waiting.kill()
        waiting.wait(30)
    slurm.ended(job)
    assert f"Slurm job {job} was cancelled" in record_of(folder).error


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: takes two minutes")
@pytest.mark.parametrize("by", ["the launcher that waits", "Slurm"])
def test_a_job_that_is_asked_to_ends_after_the_current_picture(slurm, tmp_path, by):
    """Slurm asks for it before the time limit, a minute earlier than it was told to where it likes to."""
    folder = tmp_path / "job"
    folder.mkdir()
    limit = ["cluster.timeout_min=3", "cluster.signal_delay_s=20"] if by == "Slurm" else []
    line = command(*WORDS, "cp=ring_anything", "cluster.nodes=2", "images=9999", *limit)
    with (tmp_path / "out").open("w") as out:
        waiting = subprocess.Popen(line, cwd=folder, env=slurm.environment, stdout=out, stderr=out)
    try:
        slurm.wait(lambda: list(folder.rglob("0001.png")), "pictures are drawn")
        if by != "Slurm":
            waiting.send_signal(signal.SIGUSR1)
        assert waiting.wait(PATIENCE) == 1
    finally:
        waiting.kill()
        waiting.wait(30)
    record = record_of(folder)
    assert f"launcher: Slurm job {record.slurm.id} was interrupted" in (tmp_path / "out").read_text()
    assert "launcher: interrupted by SIGUSR1" in (tmp_path / "out").read_text()
    assert record.status == "interrupted"
    assert 2 <= len(record.files) == len(list(folder.rglob("*.png"))) < 9999


EIGHT = ["-m", "cluster.nodes=1", "cluster.tasks_per_node=1", "cp=none", "height=64,100", "seed=1,2,3,4"]


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: takes a minute")
def test_a_sweep_is_an_array_over_warm_ranks_with_one_table(slurm, tmp_path):
    done = slurm.asked(*command(*WORDS, *EIGHT, "cluster.array_parallelism=2"), timeout=PATIENCE, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 in its array" in done.stdout
    assert done.stdout.count("/8] ") == 8
    assert done.stderr.count("  waits") >= 8
    assert "  runs" in done.stderr
    records = [read_record(path) for path in tmp_path.rglob("run.json")]
    assert [record.status for record in records] == ["done"] * 8
    assert {record.loads for record in records} == {1}  # once for all jobs of an allocation
    assert len({record.slurm.id for record in records}) == 2
    (sheet,) = tmp_path.rglob("contact.png")
    assert (sheet.parent / "report.html").is_file()
    assert "#SBATCH --array=0-1%2" in (sheet.parent / "job.sh").read_text()


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: takes two minutes")
def test_one_allocation_of_a_sweep_is_cancelled_and_the_others_go_on(slurm, tmp_path):
    few = [*EIGHT[:-2], "height=300", "width=300", "steps=200", "seed=1,2,3,4", "cluster.array_parallelism=2"]
    line = command(*WORDS, *few)
    with (tmp_path / "out").open("w") as out:
        waiting = subprocess.Popen(line, cwd=tmp_path, env=slurm.environment, stdout=out, stderr=out)
    try:
        slurm.wait(lambda: len(list(tmp_path.rglob("standing.json"))) == 2, "both draw")
        job = slurm.asked("squeue", "--noheader", "--array", "--format=%F").stdout.split()[0]
        slurm.asked("scancel", f"{job}_1")
        assert waiting.wait(PATIENCE) == 1
    finally:
        waiting.kill()
        waiting.wait(30)
    said = (tmp_path / "out").read_text()
    assert f"Slurm job {job}_1 was cancelled" in said
    assert "2 done, 2 failed" in said
    folder = next(tmp_path.rglob("multirun.yaml")).parent
    done = slurm.asked(*line, f"resume={folder}", timeout=PATIENCE, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 done, 2 kept" in done.stdout


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: takes two minutes")
def test_a_sweep_that_was_left_alone_and_cancelled_is_resumed(slurm, tmp_path):
    slow = [*EIGHT, "steps=300"]
    done = slurm.asked(*command(*WORDS, *slow, "cluster.wait=false"), timeout=PATIENCE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = next(tmp_path.rglob("multirun.yaml")).parent
    slurm.wait(lambda: list(folder.rglob("0000.png")), "the first picture is drawn")
    again = command(*WORDS, *slow, f"resume={folder}")
    busy = slurm.asked(*again, timeout=PATIENCE, cwd=tmp_path)
    assert busy.returncode == 1
    assert "is running there" in busy.stderr or "waits in Slurm's queue" in busy.stderr
    slurm.asked("scancel", "--name=launcher")
    slurm.wait(lambda: not slurm.asked("squeue", "--noheader").stdout.strip(), "the array is gone")
    before = {path: path.read_bytes() for path in folder.glob("[0-9]/0000.png")}
    assert 1 <= len(before) < 8
    done = slurm.asked(*again, timeout=PATIENCE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = {path: path.read_bytes() for path in folder.glob("[0-9]/0000.png")}
    assert len(after) == 8
    assert before.items() <= after.items()
