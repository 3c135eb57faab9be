"""A rank as a process, and how it tells what went wrong. Nothing here imports torch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from shared import ROOT

from launcher.wire import channel, protocol
from launcher.wire.channel import Channel
from launcher.wire.protocol import Hello, Stop
from launcher.worker.__main__ import describe


@pytest.fixture
def rank(tmp_path):
    """A rank that has said hello, and the launcher's end of its channel."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "ranks"))
        listener.listen(1)
        given = {channel.SOCKET_VARIABLE: str(tmp_path / "ranks"), channel.SECRET_VARIABLE: "s", "OMP_NUM_THREADS": "1"}
        line = [sys.executable, "-m", "launcher.worker"]
        process = subprocess.Popen(line, cwd=ROOT, env=os.environ | given | {"RANK": "0", "WORLD_SIZE": "1"})
        listener.settimeout(30)
        connection, _ = listener.accept()
    peer = Channel(connection, protocol.FROM_RANK)
    assert peer.receive() == [Hello(protocol.VERSION, "s", 0, process.pid)]
    yield process, peer
    peer.close()
    process.kill()
    process.wait()


def test_a_rank_leaves_when_it_is_told_to(rank):
    process, peer = rank
    peer.send(Stop())
    assert process.wait(60) == 0


def test_a_rank_leaves_when_the_launcher_is_gone(rank):
    process, peer = rank
    peer.close()
    assert process.wait(60) == 1


def test_a_rank_leaves_when_what_it_hears_is_no_message(rank):
    process, peer = rank
    peer.connection.sendall(b'{"kind": "hello"}\n')
    assert process.wait(60) == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (ValueError("\n\n  one  \n"), "ValueError: one"),
        (RuntimeError("Error(s) in X:\n\tsize mismatch for y"), "RuntimeError: Error(s) in X: size mismatch for y"),
        (KeyError("x"), "KeyError: 'x'"),
        (OSError(28, "No space left on device", "/home/someone/x.png"), "No space left on device: x.png"),
        (ValueError("start" + "x" * 9999 + " the reason"), None),
        (ValueError("a\x1b[31mb"), "ValueError: a\\x1b[31mb"),
    ],
)
def test_an_error_is_told_in_one_line(error, told):
    said = describe(error)
    assert "\n" not in said
    if told is None:
        assert len(said) < 700
        assert said.startswith("ValueError: startxxx")
        assert said.endswith("the reason")
    else:
        assert said == told
