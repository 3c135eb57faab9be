"""A group whose ranks break the protocol, never come or die: processes of our own in a rank's place."""

from __future__ import annotations

import errno
import subprocess
import sys
import time

import pytest
from shared import a_job, children

from launcher.problems import RunFailed
from launcher.records.run_dir import RunDir
from launcher.running.group import RankGroup
from launcher.running.message import group_key
from launcher.running.starters import accelerate

pytestmark = pytest.mark.slow

IMPOSTOR = """
import os, socket, sys
from launcher.wire import channel, protocol
from launcher.wire.channel import Channel
connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ[channel.SOCKET_VARIABLE])
peer = Channel(connection, protocol.FROM_LAUNCHER)
peer.send(protocol.Hello(protocol.VERSION, os.environ[channel.SECRET_VARIABLE], 0, os.getpid()))
peer.receive()
peer.send(protocol.Step(0, 1))
try:
    connection.sendall(eval(sys.argv[1]))
except ConnectionError:
    pass  # the launcher has heard enough
connection.recv(1)
"""


@pytest.fixture
def replace(monkeypatch):
    """Have this Python code started in place of a rank."""

    def with_code(*code: str) -> None:
        monkeypatch.setattr(accelerate, "command", lambda *_: [sys.executable, "-c", *code])

    return with_code


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (b'{"kind": "done"\n', "broke the protocol: not a message (not JSON"),
        (b'["done"]\n', "broke the protocol: not a message (expected an object)"),
        (b'{"done": true}\n', "broke the protocol: not a message (kind=None is not expected)"),
        (b'{"kind": "step", "picture": 0}\n', "broke the protocol: not a message (step.step: missing)"),
        (b'{"kind": "stop"}\n', "broke the protocol: not a message (kind='stop' is not expected)"),
        (b"\x80\x04\x95\x0e\0\0\0\n", "broke the protocol: not a message (not JSON"),
        (b"[" * 100_000 + b"\n", "broke the protocol: not a message (not JSON"),
        ("b'x' * (17 << 20)", "broke the protocol: a line of more than 16777216 bytes"),
    ],
)
def test_a_rank_that_breaks_the_protocol_ends_its_group(ask, tmp_path, replace, words, told):
    replace(IMPOSTOR, words if isinstance(words, str) else repr(words))
    run_dir, others = RunDir(tmp_path / "run"), children()
    run_dir.logs.mkdir(parents=True)
    group = RankGroup(group_key(ask("cp=none", "runtime=cpu")), run_dir)
    began = time.monotonic()
    with pytest.raises(RunFailed, match="rank 0: ") as failed:
        group.run(a_job(), run_dir, 300.0, lambda *_: None)
    assert told in str(failed.value)
    assert time.monotonic() - began < 60
    assert not group.alive
    assert children(others) == set()


WORKS = (
    IMPOSTOR[: IMPOSTOR.index("try:")]
    + """
import time
time.sleep(1)
peer.send(protocol.Done({}, 1, (), 1))
connection.recv(1)
"""
)


def test_a_launcher_that_was_stopped_judges_nobody_by_that_time(ask, tmp_path, replace):
    """Its handler blocks for longer than a rank may be silent, as a terminal does that is paused with Ctrl-S."""
    replace(WORKS)
    run_dir = RunDir(tmp_path / "run")
    run_dir.logs.mkdir(parents=True)
    group = RankGroup(group_key(ask("cp=none", "runtime=cpu")), run_dir)
    try:
        assert len(group.run(a_job(), run_dir, 2.0, lambda *_: time.sleep(4))) == 1
    finally:
        group.close()


def test_a_job_that_is_too_long_is_told_in_words(ask, tmp_path, replace, monkeypatch):
    replace(WORKS)
    run_dir = RunDir(tmp_path / "run")
    run_dir.logs.mkdir(parents=True)
    group = RankGroup(group_key(ask("cp=none", "runtime=cpu")), run_dir)
    monkeypatch.setattr("launcher.wire.channel.MAX_LINE", 100)
    with pytest.raises(RunFailed, match=r"the job can't be sent to the ranks: .* ask for fewer pictures"):
        group.run(a_job(), run_dir, 2.0, lambda *_: None)
    assert not group.alive


def test_what_ends_a_rank_before_its_log_opens_is_in_the_groups_log(ask, tmp_path, replace):
    replace(WORKS.replace("time.sleep(1)", "print('OSError: no room for a log', flush=True); os._exit(7)"))
    run_dir, later = RunDir(tmp_path / "run"), RunDir(tmp_path / "later")
    run_dir.logs.mkdir(parents=True)
    group = RankGroup(group_key(ask("cp=none", "runtime=cpu")), run_dir)
    with pytest.raises(RunFailed) as failed:
        group.run(a_job(), later, 20.0, lambda *_: None)
    assert str(failed.value) == f"rank 0: ended with exit code 7: OSError: no room for a log (log: {run_dir.log()})"


@pytest.mark.parametrize(
    ("code", "told", "timeout"),
    [
        ("import time; time.sleep(60)", "only 0 of 1 ranks started within runtime.start_timeout=1 s", 1),
        ("import nothing", "the ranks did not start: ModuleNotFoundError: No module named 'nothing'", 60),
        ("raise SystemExit(7)", "the ranks did not start: exit code 7", 60),
    ],
)
def test_ranks_that_do_not_come_are_told_with_the_reason(ask, tmp_path, replace, code, told, timeout):
    replace(code)
    run_dir, others = RunDir(tmp_path / "run"), children()
    run_dir.logs.mkdir(parents=True)
    with pytest.raises(RunFailed) as failed:
        RankGroup(group_key(ask("cp=none", "runtime=cpu", f"runtime.start_timeout={timeout}")), run_dir)
    assert str(failed.value) == f"{told} (log: {run_dir.log()})"
    assert children(others) == set()


def test_a_limit_on_processes_is_told(ask, tmp_path, monkeypatch):
    def none(*_, **__):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", none)
    run_dir = RunDir(tmp_path / "run")
    run_dir.logs.mkdir(parents=True)
    with pytest.raises(RunFailed, match=r"the ranks can't be started: Resource temporarily unavailable .see ulimit -u"):
        RankGroup(group_key(ask("cp=none", "runtime=cpu")), run_dir)
