"""An agent starts what it is told to, tells how that ended, and leaves nothing behind."""

from __future__ import annotations

import socket
import sys
import threading
import time

import pytest

from launcher.nodes import Node
from launcher.problems import RunFailed
from launcher.running import agent as agents
from launcher.running.cluster import Cluster
from launcher.running.starters import accelerate
from launcher.wire.agents import End, Start

SECRET = "s" * 32


@pytest.fixture
def pair(monkeypatch):
    """The first machine's half, and what the agent's command line will be."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    said = []

    def serve():
        try:
            said.append(agents.serve(Node(1, 2, "127.0.0.1", port, SECRET), 20))
        except RunFailed as error:
            said.append(str(error))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    cluster = Cluster(Node(0, 2, "127.0.0.1", port, SECRET), 20, print)
    yield cluster, said
    cluster.close(0)
    thread.join(30)
    assert not thread.is_alive()


def start(cluster, log) -> None:
    cluster.agents[1].ended = None
    cluster.agents[1].send(Start("token", 2, 1, "cpu", (), (1,), False, str(log)))


def test_ranks_that_end_by_themselves_are_told_with_their_last_words(pair, tmp_path, monkeypatch):
    cluster, _ = pair
    monkeypatch.setattr(accelerate, "command", lambda *_: [sys.executable, "-c", "raise ValueError('it broke')"])
    start(cluster, tmp_path / "start1.log")
    cluster.wait(30)
    assert cluster.trouble().endswith(": ended with exit code 1: ValueError: it broke")


def test_ranks_end_when_they_are_told_to(pair, tmp_path, monkeypatch):
    cluster, _ = pair
    monkeypatch.setattr(accelerate, "command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    start(cluster, tmp_path / "start1.log")
    began = time.monotonic()
    cluster.end(now=True)
    cluster.wait(30)
    assert cluster.agents[1].ended == ""
    assert time.monotonic() - began < 30


def test_the_ranks_of_an_agent_get_the_secret_and_their_groups_token_by_their_environment(pair, tmp_path, monkeypatch):
    cluster, _ = pair
    code = (
        "import os; print(os.environ['LAUNCHER_ADDRESS'], os.environ['LAUNCHER_SECRET'],"
        " len(os.environ['LAUNCHER_CLUSTER_SECRET']), os.environ['GLOO_SOCKET_IFNAME'], 'LAUNCHER_STORE' in os.environ)"
    )
    monkeypatch.setattr(accelerate, "command", lambda *_: [sys.executable, "-c", code])
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    log = tmp_path / "start1.log"
    start(cluster, log)
    cluster.wait(30)
    lo = accelerate.interface_of("127.0.0.1")
    assert log.read_text().split() == ["127.0.0.1", str(cluster.node.port), "token", "32", lo, "False"]


def test_a_log_that_can_not_be_written_is_told(pair, tmp_path):
    cluster, _ = pair
    start(cluster, tmp_path / "nowhere" / "start1.log")
    cluster.wait(30)
    assert "No such file or directory" in cluster.trouble()
    cluster.agents[1].send(End(True))
