"""How a launcher is ended from outside, as processes of their own: signals, a closed terminal, two at once."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import psutil
import pytest
from shared import ROOT, Group, cause, command, group, hermetic

from launcher.wire.channel import STORE_VARIABLE

pytestmark = pytest.mark.slow

LONG = ["runtime=cpu", "height=512", "width=512", "steps=1000", "seed=1"]


class Running:
    """A launcher that is at work, in a folder of its own; `terminal` gives it one, as a shell would."""

    def __init__(self, folder: Path, *words: str, terminal: bool = False) -> None:
        folder.mkdir()
        (folder / "tmp").mkdir()
        self.folder, self.group = folder, Group({}, None)
        self.screen, screen = pty.openpty() if terminal else os.pipe()
        if terminal:
            fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.process = subprocess.Popen(
            command(*words),
            cwd=folder,
            env=hermetic(TMPDIR=str(folder / "tmp")),
            stdin=screen if terminal else subprocess.DEVNULL,
            stdout=screen if terminal else subprocess.DEVNULL,
            stderr=screen,
            start_new_session=terminal,
            preexec_fn=(lambda: os.close(os.open(os.ttyname(0), os.O_RDWR))) if terminal else None,  # becomes its own
        )
        os.close(screen)
        self.said = ""

    def until(self, stage: str) -> None:
        """Wait until the screen shows a stage."""
        while stage not in self.said:
            assert select.select([self.screen], [], [], 60)[0], self.said
            said = os.read(self.screen, 1 << 16).decode(errors="replace")
            assert said, self.said  # it has ended
            self.said += said
        self.group = group(psutil.Process(self.process.pid))

    def end(self) -> tuple[int, str]:
        """Exit code and how run.json says that it ended; what it started is gone with it.

        A second on a machine that has nothing else to do; its 1000 steps would take hours.
        """
        code = self.process.wait(60)
        assert self.group.left(30) == []
        left = [path for path in (self.folder / "tmp").iterdir() if code != -signal.SIGKILL]  # swept by the next one
        assert left == []
        (record,) = self.folder.rglob("run.json")
        return code, json.loads(record.read_text())["status"]

    def rest(self) -> str:
        """What it said at last."""
        with open(self.screen, encoding="utf-8") as screen:
            return screen.read()


@pytest.fixture
def start(tmp_path):
    running: list[Running] = []

    def run(*words: str, terminal: bool = False) -> Running:
        running.append(Running(tmp_path / f"launcher{len(running)}", *words, terminal=terminal))
        return running[-1]

    yield run
    for one in running:
        for process in [*one.group.left(), *([one.process] if one.process.poll() is None else [])]:
            process.kill()


def test_a_second_ctrl_c_changes_nothing(start):
    run = start(*LONG, "cp=ring_anything")
    run.until("importing")
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    run.process.send_signal(signal.SIGINT)
    assert run.end() == (130, "interrupted")
    assert "interrupted by SIGINT" in cause(run.rest())


def test_a_closed_terminal_ends_the_run(start):
    """A real one: the kernel sends SIGHUP, and from then on every write to the screen fails."""
    run = start(*LONG, "cp=none", terminal=True)
    run.until("denoising")
    assert len(run.group.ranks) == 1
    os.close(run.screen)
    assert run.end() == (129, "interrupted")


def test_two_launchers_at_once_share_nothing(start):
    """One is killed, and leaves no rank behind; the other one goes on until it is asked to end."""
    one, other = (start(*LONG, "cp=ring_anything") for _ in range(2))
    stores = []
    for run in (one, other):
        run.until("denoising")
        assert len(run.group.ranks) == 2
        stores.append({rank.environ()[STORE_VARIABLE] for rank in run.group.ranks.values()})
    assert all(len(store) == 1 for store in stores)
    assert stores[0] != stores[1]
    one.process.kill()
    assert one.end() == (-signal.SIGKILL, "running")  # there was nobody left to write another word
    assert len(other.group.left()) == 3
    other.process.terminate()
    assert other.end() == (143, "interrupted")
    assert "interrupted by SIGTERM" in cause(other.rest())


def test_a_launcher_that_was_stopped_finds_its_picture_made(start):
    """A laptop's lid, Ctrl-Z: for longer than ranks may be silent, and they went on meanwhile."""
    run = start(*LONG[:-2], "steps=8", "seed=1", "runtime.stall_timeout=20", "cp=none")
    run.until("denoising")
    run.process.send_signal(signal.SIGSTOP)
    time.sleep(23)
    run.process.send_signal(signal.SIGCONT)
    assert run.end() == (0, "done"), run.rest()


def test_what_the_shell_has_ignored_stays_ignored():
    """`nohup` asks for a launcher that outlives its terminal."""
    code = "from signal import *; from launcher.cli.main import signals\nwith signals(): print(repr(getsignal(SIGHUP)))"
    words = ["sh", "-c", 'trap "" HUP; exec "$0" "$@"', *command()[:1], "-c", code]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "SIG_IGN" in ended.stdout


def test_the_ranks_run_this_checkout(tmp_path):
    """An installed launcher, or another checkout's, would make the tests of ranks say nothing about this one."""
    words = [*command()[:1], "-c", "import launcher; print(launcher.__file__)"]
    ended = subprocess.run(words, cwd=tmp_path, env=hermetic(), capture_output=True, text=True, check=True)
    assert Path(ended.stdout.strip()).parent == ROOT / "launcher"
