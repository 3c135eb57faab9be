"""When a rank has stalled, and when it only seems so."""

import time

import pytest

from launcher.running.watch import AwakeClock, Watch
from launcher.wire.protocol import Alive, Done, Stage, Step


class Time:
    """time.monotonic under a test's control."""

    def __init__(self, monkeypatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def world(monkeypatch):
    """The time, the launcher's clock, and what lets seconds pass while the launcher looks ten times in each."""
    moment = Time(monkeypatch)
    clock = AwakeClock()

    def passes(seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            moment.now += 0.1
            clock()

    return moment, clock, passes


def test_a_rank_that_is_done_may_be_silent(world):
    """Rank 0 alone writes a film."""
    _, clock, passes = world
    watch = Watch(10, 2, clock)
    watch.heard(1, Done({}, 0, (), 0))
    for _ in range(5):
        passes(9)
        watch.heard(0, Alive())
        assert watch.stalled() is None
    passes(11)
    assert watch.stalled() is not None
    watch.heard(0, Done({}, 0, (), 0))
    assert watch.stalled() is None


def test_a_stall_is_silence_or_a_step_that_does_not_end(world):
    _, clock, passes = world
    watch = Watch(10, 2, clock)
    for _ in range(5):  # a rank that loads takes its time, and is alive
        passes(9)
        watch.heard(0, Alive())
        watch.heard(1, Alive())
        assert watch.stalled() is None
    watch.heard(0, Step(0, 1))
    watch.heard(1, Step(0, 1))
    passes(9)
    watch.heard(1, Alive())
    assert watch.stalled() is None
    passes(2)
    assert watch.stalled() == (
        0,
        "no sign of life within runtime.stall_timeout=10 s (stopped, or the machine is overloaded)",
    )
    watch.heard(0, Step(0, 2))
    watch.heard(1, Alive())
    assert watch.stalled() == (1, "alive, but no step was finished within runtime.stall_timeout=10 s")
    watch.heard(1, Stage("decoding"))  # has no steps
    passes(9)
    watch.heard(1, Alive())
    watch.heard(0, Step(0, 3))
    assert watch.stalled() is None


def test_a_rank_that_waits_for_a_stopped_one_is_not_to_blame(world):
    """Its own last step is older than the other one's last sign of life."""
    _, clock, passes = world
    watch = Watch(10, 2, clock)
    watch.heard(0, Step(0, 1))
    watch.heard(1, Step(0, 1))
    passes(0.9)
    watch.heard(1, Alive())  # its last
    for _ in range(9):
        passes(1)
        watch.heard(0, Alive())
    passes(0.5)
    assert watch.stalled() is None
    passes(0.9)
    watch.heard(0, Alive())
    assert watch.stalled() is not None
    assert watch.stalled()[0] == 1


def test_a_clock_that_steps_is_no_stall(world, monkeypatch):
    _, clock, _ = world
    watch = Watch(10, 1, clock)
    real = time.time()
    for step in (1e6, -1e6, -real):
        monkeypatch.setattr(time, "time", lambda step=step: real + step)
        assert watch.stalled() is None


def test_time_in_which_the_launcher_was_stopped_does_not_count(world):
    moment, clock, passes = world
    watch = Watch(10, 1, clock)
    watch.heard(0, Step(0, 1))
    passes(5)
    moment.now += 3600  # a lid was closed
    assert watch.stalled() is None
    passes(3)
    assert watch.stalled() is None
    passes(3)  # 5 + 3 + 3 s, and the rank is silent indeed
    assert watch.stalled() is not None
