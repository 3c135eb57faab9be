"""What starts ranks on one of several machines ends with who started it."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil

from launcher.running.starters import bound

# It hands its own number on, as the launcher does, and is gone before anything has ended.
STARTER = """
import os, subprocess, sys
child = "import os, time; from launcher.running.starters import bound; bound.TICK = bound.GRACE = 0.05; "
child += "bound._end_with(int(os.environ['STARTER']))"
env = dict(os.environ, STARTER=str(os.getpid()))
print(subprocess.Popen([sys.executable, "-c", child], env=env, stdout=subprocess.DEVNULL).pid, flush=True)
sys.stdin.read()
"""


def test_it_ends_once_who_started_it_is_gone():
    line = [sys.executable, "-c", STARTER]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        child = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
    gone, left = psutil.wait_procs([child], timeout=60)
    assert (gone, left) == ([child], [])


def test_it_stays_while_who_started_it_is_there(monkeypatch):
    ended, looks = [], []
    monkeypatch.setattr(bound, "TICK", 0.0)
    monkeypatch.setattr(bound, "GRACE", 0.0)
    monkeypatch.setattr(os, "getppid", lambda: looks.append(1) or (7 if len(looks) < 4 else 1))
    monkeypatch.setattr(os, "_exit", ended.append)
    bound._end_with(7)
    assert (len(looks), ended) == (4, [1])
