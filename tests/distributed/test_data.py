"""Jobs of a sweep, and pictures of one run, by two groups of ranks at once: as by one, whatever becomes of a rank."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest

from launcher.config.compose import Composer
from launcher.problems import RunFailed
from launcher.records.files import sha256
from launcher.records.record import Record, read_record
from launcher.running.progress import Progress
from launcher.running.screen import Silent
from launcher.running.session import Session
from launcher.running.sweep import DONE, FAILED, KEPT

pytestmark = pytest.mark.slow

SMALL = ["runtime=cpu", "cp=none", "height=64", "width=64", "steps=2", "runtime.threads=1"]
WORDS = [*SMALL, "seed=1,2,3,4"]
PICTURES = [*SMALL, "seed=1", "images=5"]


class Meddling(Silent):
    """A screen that does something at the first step of a group, and keeps what it is told."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.does: tuple[int, str] | None = None  # the group, and what
        self.ended: list[int] = []
        self.lock = threading.Lock()

    def board(self, steps):
        screen = self

        class Board:
            def job(self, group: int, what: str, steps: int) -> Progress:
                return One(screen, group)

            def close(self) -> None: ...

        return Board()

    def job(self, sweep, number):
        self.ended.append(number)

    def stepped(self, group: int) -> None:
        with self.lock:
            mine = self.does if self.does is not None and self.does[0] == group else None
            self.does = None if mine is not None else self.does
        if mine is not None and mine[1] == "kill":
            psutil.Process(self.session._places.slots[group]._ranks._ranks.processes[0].pid).kill()
        elif mine is not None:
            os.kill(os.getpid(), signal.SIGINT)


class One:
    """The progress of a group."""

    def __init__(self, screen: Meddling, group: int) -> None:
        self.screen, self.group = screen, group

    def at(self, stage): ...
    def tick(self): ...
    def close(self): ...

    def step(self):
        self.screen.stepped(self.group)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Sweeps and runs by two groups and by one, in few starts of ranks; what went wrong is kept by its name."""
    folder, screen, kept = tmp_path_factory.mktemp("data"), Meddling(), {}
    with pytest.MonkeyPatch.context() as patch, Session(Composer(), screen) as session:
        patch.chdir(folder)
        screen.session, screen.does = session, (0, "kill")
        kept["sweep"] = session.sweep([*WORDS, "data=2", "hydra.sweep.dir=two"])
        screen.does = (1, "kill")
        with pytest.raises(RunFailed) as lost:
            session.run([*PICTURES, "data=2", "hydra.run.dir=lost"])
        kept["lost"] = str(lost.value)
        kept["whole"] = session.run([*PICTURES, "data=2", "hydra.run.dir=whole"])
        screen.does = (0, "interrupt")
        with pytest.raises(KeyboardInterrupt):
            session.run([*PICTURES, "data=auto", "hydra.run.dir=interrupted"])
        kept["places"] = [slot.key for slot in session._places.slots]
        kept["again"] = session.sweep([*WORDS, "data=1", "resume=two"])
        kept["one"] = session.sweep([*WORDS, "hydra.sweep.dir=one"])
        kept["alone"] = session.run([*PICTURES, "hydra.run.dir=alone"])
    return folder, screen, kept


def test_one_groups_failure_costs_its_job_and_the_rest_is_as_by_one_group(made):
    folder, screen, kept = made
    (failed,) = [job for job in kept["sweep"].jobs if job.status == FAILED]
    assert "killed by SIGKILL" in failed.reason
    assert [job.status for job in kept["sweep"].jobs].count(DONE) == 3
    assert sorted(screen.ended[:4]) == [0, 1, 2, 3]
    assert sorted(job.status for job in kept["again"].jobs) == [DONE, KEPT, KEPT, KEPT]
    assert not kept["one"].failed
    for number in range(4):
        one, two = (sha256(folder / sweep / str(number) / "0000.png") for sweep in ("one", "two"))
        assert one == two


def test_pictures_of_one_run_are_those_of_one_group_to_the_byte(made):
    folder, _, kept = made
    two, one = kept["whole"].record, kept["alone"].record
    assert two.files == one.files
    assert [file.seed for file in two.files] == [1, 2, 3, 4, 5]
    for file in one.files:
        assert sha256(folder / "whole" / file.file) == sha256(folder / "alone" / file.file) == file.sha256
    assert two.config | {"data": "1"} == one.config
    assert two.config["data"] == "2"
    same = ("prompts", "seed", "size", "tokens_per_rank", "devices", "weights", "kernel", "scheduler", "generator")
    assert all(getattr(two, name) == getattr(one, name) for name in same)
    assert [len(steps) for steps in two.step_seconds] == [2] * 5
    assert (len(two.peak_bytes), len(two.sent_bytes), len(one.peak_bytes)) == (2, 2, 1)
    logs = {path.name for path in (folder / "whole" / "logs").iterdir()}
    assert {"rank0.log", "rank1.log"} <= logs


def test_a_killed_rank_costs_its_groups_pictures_and_the_run_says_which(made):
    folder, _, kept = made
    record = read_record(folder / "lost" / "run.json")
    assert record.status == "failed"
    assert [file.file for file in record.files] == ["0000.png", "0002.png", "0004.png"]
    assert all(sha256(folder / "lost" / file.file) == file.sha256 for file in record.files)
    assert kept["lost"].startswith("group 2 of 2 failed: rank 1: killed by SIGKILL")
    assert kept["lost"].endswith("; not made: 0001.png, 0003.png; kept: 3 pictures")
    assert record.error.endswith("; not made: 0001.png, 0003.png; kept: 3 pictures")
    assert pngs(folder / "lost") == ["0000.png", "0002.png", "0004.png"]


def test_an_interrupt_ends_all_groups_and_keeps_what_was_made(made):
    folder, _, kept = made
    record: Record = read_record(folder / "interrupted" / "run.json")
    assert record.status == "interrupted"
    assert record.config["data"] == "2"  # auto
    assert pngs(folder / "interrupted") == [file.file for file in record.files]
    first, second = kept["places"]
    assert first is None  # no rank is left of a group that was drawing; one that had drawn its pictures is warm
    assert second is None or {"0001.png", "0003.png"} <= set(pngs(folder / "interrupted"))


def pngs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.png"))
