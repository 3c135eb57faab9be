"""All jobs of a sweep that run elsewhere: lines of a terminal, and lines where there is none."""

from __future__ import annotations

import io
import os
import sys

from launcher.cli.standing import Lines
from launcher.running.standing import Standing
from launcher.running.sweep import DONE, Job, Sweep

WAITS, RUNS = Standing(False, "Resources"), Standing(True, "denoising", 4, 9, 0.1, 3.0)


def jobs(count: int) -> Sweep:
    return Sweep([Job([f"seed={number}"]) for number in range(count)])


def test_without_a_terminal_a_change_is_a_line(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    said = []
    lines = Lines(jobs(2), lambda text, _: said.append(text))
    lines.show({0: WAITS, 1: WAITS})
    lines.show({0: RUNS, 1: WAITS})
    lines.show({0: Standing(True, "denoising", 5, 9), 1: WAITS})
    lines.close()
    assert said == [
        "[1/2] seed=0  waits: Resources",
        "[2/2] seed=1  waits: Resources",
        "[1/2] seed=0  runs",
    ]


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_those_that_run_come_first_and_fit(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((60, 6)))
    sweep = jobs(9)
    sweep.jobs[0].status = DONE
    lines = Lines(sweep, lambda *_: None)
    standing = {number: RUNS if number == 5 else WAITS for number in range(1, 9)}
    lines.show(standing)
    shown = screen.getvalue()
    assert "1 done, 1 running, 7 waiting" in shown
    assert "[6/9] seed=5  denoising step 4 of 9, 0.1 s/step, 3 s" in shown
    assert shown.index("seed=5") < shown.index("seed=1  waits: Resources")
    assert "and 6 more" in shown
    assert "seed=8" not in shown
    lines.show({5: RUNS})
    lines.close()
    assert not lines._rows
