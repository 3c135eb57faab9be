"""Who is let in: ranks that say their group's token, in a version that is understood."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from launcher.running import entrance as entrances
from launcher.running.entrance import Entrance
from launcher.running.folder import GroupFolder
from launcher.wire import channel, protocol
from launcher.wire.channel import Channel
from launcher.wire.messages import pack
from launcher.wire.protocol import Hello, Stage


@pytest.fixture
def entrance(monkeypatch):
    monkeypatch.setattr(entrances, "PATIENCE", 0.5)
    folder = GroupFolder()
    made = Entrance(folder, 2, None)
    yield made
    made.close()
    made.close()
    folder.remove()


def says(entrance: Entrance, message) -> object:
    """What becomes of one that connects and says this."""
    with socket.socket(socket.AF_UNIX) as rank:
        rank.connect(entrance.variables()[channel.SOCKET_VARIABLE])
        if message is not None:
            Channel(rank, ()).send(message)
        accepted = entrance.accept()
        if isinstance(accepted, tuple):
            accepted[1].close()
            return accepted[0]
        return accepted


def test_a_rank_with_the_groups_token_is_let_in(entrance):
    hello = Hello(protocol.VERSION, entrance.variables()[channel.SECRET_VARIABLE], 1, 42)
    assert says(entrance, hello) == hello
    assert entrance.accept() is None


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (Hello(protocol.VERSION, "x" * 32, 1, 42), "without the secret"),
        (Hello(protocol.VERSION - 1, "", 1, 42), "not a hello of protocol version"),
        (Stage("loading"), "not a hello of protocol version"),
        (None, "not a hello of protocol version"),
    ],
)
def test_anybody_else_is_not(entrance, message, told):
    assert told in says(entrance, message)


def test_words_may_come_in_pieces(entrance, monkeypatch):
    monkeypatch.setattr(entrances, "PATIENCE", 60.0)
    hello = Hello(protocol.VERSION, entrance.variables()[channel.SECRET_VARIABLE], 1, 42)
    line = pack(hello) + b"\n"
    with socket.socket(socket.AF_UNIX) as rank:
        rank.connect(entrance.variables()[channel.SOCKET_VARIABLE])

        def say() -> None:
            for at in range(0, len(line), 40):
                rank.sendall(line[at : at + 40])
                time.sleep(0.01)

        with ThreadPoolExecutor(1) as threads:
            threads.submit(say)
            accepted = entrance.accept()
        assert isinstance(accepted, tuple)
        assert accepted[0] == hello
        accepted[1].close()
