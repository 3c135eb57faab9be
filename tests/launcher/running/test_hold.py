"""A folder is one process's at a time; the system forgets a process that died."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest
from shared import ROOT

from launcher.problems import Refused
from launcher.running.hold import NAME, held, is_held

HOLD = """
import sys, time, pathlib
from launcher.running.hold import held
with held(pathlib.Path(sys.argv[1]), "x"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the folder."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_is_told_who_is_at_work(tmp_path, other):
    assert is_held(tmp_path / "run")
    said = rf"hydra.run.dir=x: process {other.pid} on .* is at work there"
    with pytest.raises(Refused, match=said), held(tmp_path / "run", "hydra.run.dir=x"):
        pass


def test_a_killed_owner_leaves_nothing_in_the_way(tmp_path, other):
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert not is_held(tmp_path / "run")
    with held(tmp_path / "run", "x"):
        assert is_held(tmp_path / "run")
    assert not (tmp_path / "run" / NAME).exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("victim")])
def test_a_lock_that_is_no_file_is_no_trap(tmp_path, make):
    (tmp_path / "victim").write_text("mine")
    make(tmp_path / NAME)
    with pytest.raises(Refused, match=r"its \.lock is not a regular file; remove it"), held(tmp_path, "x"):
        pass
    assert not is_held(tmp_path)
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_lock_that_has_no_room_leaves_nothing(tmp_path, monkeypatch):
    def full(file, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"), held(tmp_path, "x"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_it_is_released_after_an_error(tmp_path):
    with pytest.raises(KeyError), held(tmp_path / "a" / "b", "x"):
        raise KeyError
    assert not is_held(tmp_path / "a" / "b")


def test_a_lock_that_its_owner_removes_meanwhile_holds_nothing(tmp_path, monkeypatch):
    take = fcntl.flock

    def late(lock, how):
        (tmp_path / NAME).unlink()
        take(lock, how)

    monkeypatch.setattr("fcntl.flock", late)
    with pytest.raises(Refused, match="is at work there"), held(tmp_path, "x"):
        pass


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with held(tmp_path, "x"):
        assert not is_held(tmp_path)
