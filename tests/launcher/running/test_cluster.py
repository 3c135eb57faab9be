"""Machines come together and are compared: here two launchers' halves, in one process, on the loopback device."""

from __future__ import annotations

import shutil
import socket
import threading
import time

import pytest

from launcher.nodes import Node
from launcher.problems import Refused, RunFailed
from launcher.records.run_dir import RunDir, versions
from launcher.running import agent as agents
from launcher.running import cluster as clusters
from launcher.running.alike import listing
from launcher.running.cluster import Cluster
from launcher.wire import proof, protocol
from launcher.wire.agents import TO_AGENT, Ended, Join
from launcher.wire.channel import Channel

SECRET = "s" * 32


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Other(threading.Thread):
    """An agent in a thread; `outcome` is its exit code, or its error."""

    def __init__(self, node: Node) -> None:
        super().__init__(daemon=True)
        self.node, self.outcome = node, None
        self.start()

    def run(self):
        try:
            self.outcome = agents.serve(self.node, 20)
        except RunFailed as error:
            self.outcome = str(error)

    def ended(self):
        self.join(30)
        return self.outcome


@pytest.fixture
def nodes():
    port = free()
    return [Node(number, 2, "127.0.0.1", port, SECRET) for number in range(2)]


def joining(first: Node, changes: dict[str, object]) -> Channel:
    """An agent of our own, whose first words are changed."""
    facts = {
        "version": protocol.VERSION,
        "node": 1,
        "count": 2,
        "host": "there",
        "clock": time.time(),
        "versions": versions(),
        "devices": clusters.devices(),
    }
    channel = Channel(proof.connected((first.address, first.port), SECRET, 5), TO_AGENT)
    channel.send(Join(**(facts | changes)))
    return channel


def told_by(first: Node, **changes) -> tuple[str, list[str]]:
    """What the first machine says of an agent with these first words, and what it only notes."""
    notes, made = [], []

    def join():
        for _ in range(100):
            try:
                made.append(joining(first, changes))
                return
            except OSError:
                time.sleep(0.05)

    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    try:
        Cluster(first, 2, notes.append).close(0)
        return "", notes
    except (Refused, RunFailed) as error:
        return str(error), notes
    finally:
        thread.join(30)
        for channel in made:
            channel.close()


def test_machines_come_together_and_leave_with_the_code_that_they_are_given(nodes):
    other = Other(nodes[1])
    cluster = Cluster(nodes[0], 20, print)
    assert cluster.hosts == (socket.gethostname(),) * 2
    assert cluster.trouble() == cluster.trouble(listen=True) == cluster.lost()
    cluster.close(3)
    assert other.ended() == 3


def test_an_agent_is_told_why_the_first_machine_failed(nodes):
    other = Other(nodes[1])
    Cluster(nodes[0], 20, print).close(1, "rank 0: broke")
    assert other.ended() == "the first machine ended: rank 0: broke"


@pytest.mark.slow
@pytest.mark.slow
def test_an_agent_with_another_secret_is_refused_on_both_sides(nodes, monkeypatch):
    wrong = Node(1, 2, "127.0.0.1", nodes[0].port, "t" * 32)
    other = Other(wrong)
    with pytest.raises(RunFailed) as failed:
        Cluster(nodes[0], 3, print)
    assert "machine 1 did not come to 127.0.0.1" in str(failed.value)
    assert "refused there: 127.0.0.1: another secret" in str(failed.value)
    assert "has not proved to know LAUNCHER_CLUSTER_SECRET" in other.ended()


def test_a_first_machine_that_is_not_there_is_told(nodes):
    with pytest.raises(RunFailed, match=r"can't be reached at 127.0.0.1 port \d+ within cluster.join_timeout=0.1 s"):
        agents.serve(nodes[1], 0.1)


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"versions": versions() | {"torch": "0.1"}}, "on machine 1 (there); install the same on every machine"),
        ({"versions": {}}, "diffusers: "),
        ({"version": 0}, "launcher: "),
        ({"count": 3}, "there counts 3 machines, and this one 2"),
        ({"node": 7}, "there says that it is machine 7, which has come already or can't be"),
    ],
)
def test_another_machine_that_does_not_fit_is_refused_with_the_reason(nodes, changes, told):
    assert told in told_by(nodes[0], **changes)[0]


def test_a_clock_that_differs_is_noted(nodes):
    said, notes = told_by(nodes[0], clock=time.time() - 90)
    assert said == ""
    assert len(notes) == 1
    assert "the clock of machine 1 (there) is 9" in notes[0]
    assert "s behind this one's" in notes[0]


def test_other_devices_are_noted(nodes):
    said, notes = told_by(nodes[0], devices=("NVIDIA Z9",))
    assert said == ""
    assert notes == [
        f"machine 1 (there) has NVIDIA Z9, and this one {clusters.devices()[0]}: ranks get equal shares all the same"
    ]


def test_an_address_that_is_not_this_machines_is_refused():
    with pytest.raises(Refused, match=r"MASTER_ADDR=192.0.2.1: 192.0.2.1 is no address of this machine"):
        Cluster(Node(0, 2, "192.0.2.1", free(), SECRET), 1, print)


def test_a_port_that_is_taken_is_refused(nodes):
    with (
        socket.create_server(("127.0.0.1", nodes[0].port)),
        pytest.raises(Refused, match=r"can't be listened at: Address already in use; type cluster.port=NUMBER"),
    ):
        Cluster(nodes[0], 1, print)


def test_folders_that_differ_are_told_before_anything_is_loaded(nodes, tmp_path, monkeypatch):
    model, run_dir = tmp_path / "model", RunDir(tmp_path / "run")
    (model / "vae").mkdir(parents=True)
    (model / "vae" / "config.json").write_text("{}")
    run_dir.path.mkdir()
    other = Other(nodes[1])
    cluster = Cluster(nodes[0], 20, print)
    try:
        cluster.compare(run_dir, str(model))
        assert list(run_dir.path.iterdir()) == []
        monkeypatch.setattr(agents, "listing", lambda folder: {**listing(folder), "vae/config.json": "other"})
        with pytest.raises(RunFailed, match=r"has another vae/config.json of the model in .*: copy the model there"):
            cluster.compare(run_dir, str(model))
        monkeypatch.setattr(agents, "listing", lambda _: {})
        with pytest.raises(RunFailed, match=r"lacks vae/config.json of the model"):
            cluster.compare(run_dir, str(model))
        monkeypatch.setattr(agents, "fits", lambda _: False)
        with pytest.raises(RunFailed, match=r"does not see the run's folder .*: type output.dir=FOLDER"):
            cluster.compare(run_dir, str(model))
        shutil.rmtree(model)
        assert listing(str(model)) == {}
    finally:
        cluster.close(0)
        assert other.ended() == 0


def test_an_agent_that_leaves_or_is_gone_is_told(nodes, tmp_path):
    made = []
    thread = threading.Thread(target=lambda: made.append(_late(nodes[0])), daemon=True)
    thread.start()
    cluster = Cluster(nodes[0], 20, print)
    thread.join(30)
    made[0].send(Ended("was stopped by SIGTERM", stopped=True))
    cluster.agents[1].receive()
    assert cluster.trouble() == cluster.lost() == "machine 1 (there) was stopped by SIGTERM"
    cluster.agents[1].ended = None
    made[0].close()
    cluster.wait(5)
    cluster.agents[1].receive()
    assert cluster.lost().startswith("machine 1 (there) is gone: its launcher was killed")
    cluster.close(0)


def _late(node: Node) -> Channel:
    for _ in range(100):
        try:
            return joining(node, {})
        except OSError:
            time.sleep(0.05)
    raise AssertionError
