"""A sweep by two groups of ranks at once: the pictures of one group, and a killed rank costs its own job alone."""

from __future__ import annotations

import threading

import psutil
import pytest

from launcher.config.compose import Composer
from launcher.records.files import sha256
from launcher.running.screen import Silent
from launcher.running.session import Session
from launcher.running.sweep import DONE, FAILED, KEPT

pytestmark = pytest.mark.slow

WORDS = ["runtime=cpu", "cp=none", "height=64", "width=64", "steps=2", "runtime.threads=1", "seed=1,2,3,4"]


class Killing(Silent):
    """A screen that kills a rank of one group at the first step of any, and keeps what it is told."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.killed = threading.Event()
        self.ended: list[int] = []

    def progress(self, steps, brief):
        return self

    def at(self, stage): ...
    def tick(self): ...
    def close(self): ...

    def step(self):
        if not self.killed.is_set():
            self.killed.set()
            (victim, *_) = [slot._ranks for slot in self.session._slots if slot._ranks is not None]
            psutil.Process(victim._processes[0].pid).kill()

    def job(self, sweep, number):
        self.ended.append(number)


def test_one_groups_failure_costs_its_job_and_the_rest_is_as_by_one_group(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    screen = Killing()
    with Session(Composer(), screen) as session:
        screen.session = session
        sweep = session.sweep([*WORDS, "data=2", "hydra.sweep.dir=two"])
        assert sorted(screen.ended) == [0, 1, 2, 3]
        (failed,) = [job for job in sweep.jobs if job.status == FAILED]
        assert "killed by SIGKILL" in failed.reason
        assert [job.status for job in sweep.jobs].count(DONE) == 3
        again = session.sweep([*WORDS, "data=1", "resume=two"])
        assert sorted(job.status for job in again.jobs) == [DONE, KEPT, KEPT, KEPT]
        assert not session.sweep([*WORDS, "hydra.sweep.dir=one"]).failed
    for number in range(4):
        one, two = (sha256(tmp_path / folder / str(number) / "0000.png") for folder in ("one", "two"))
        assert one == two
