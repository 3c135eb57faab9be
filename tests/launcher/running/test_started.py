"""The process that starts ranks ends with all below it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from launcher.problems import RunFailed
from launcher.running import started

FAMILY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
time.sleep(60)
"""


def family(log: Path) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """A process that was started, and what is below it."""
    process = started.start([sys.executable, "-c", FAMILY], dict(os.environ), log)
    end = time.monotonic() + 30
    while not (children := psutil.Process(process.pid).children()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return process, children


def test_the_number_of_one_that_has_ended_may_be_anothers(tmp_path):
    ended = started.start([sys.executable, "-c", ""], dict(os.environ), tmp_path / "log")
    ended.wait()
    process, children = family(tmp_path / "log")
    ended.pid = process.pid
    started.end(ended, (), now=True)
    assert process.poll() is None
    assert all(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    started.end(process, (), now=True)


def test_nothing_below_it_is_left(tmp_path):
    process, children = family(tmp_path / "log")
    assert not started.gone(process, 0.01)
    started.end(process, (), now=True)
    assert process.poll() is not None
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert started.gone(process, 0)
    assert started.gone(None, 0)
    started.end(None, (), now=True)


def test_what_can_not_be_started_is_told(tmp_path):
    with pytest.raises(RunFailed, match=r"the ranks can't be started: No such file or directory \(see ulimit -u"):
        started.start([str(tmp_path / "nothing")], {}, tmp_path / "log")
