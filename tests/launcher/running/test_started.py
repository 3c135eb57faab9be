"""The process that starts ranks ends with all below it."""

from __future__ import annotations

import os
import sys
import time

import psutil
import pytest

from launcher.problems import RunFailed
from launcher.running import started

FAMILY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
time.sleep(60)
"""


def test_nothing_below_it_is_left(tmp_path):
    process = started.start([sys.executable, "-c", FAMILY], dict(os.environ), tmp_path / "log")
    end = time.monotonic() + 30
    while not (children := psutil.Process(process.pid).children()):
        assert time.monotonic() < end
        time.sleep(0.02)
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
