"""Several machines: two launchers on the loopback device, and two hosts of the kernel's own making where root may."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from shared import ROOT, command, hermetic

from launcher.records.record import read_record

pytestmark = pytest.mark.slow

WORDS = ["cluster=env", "runtime=cpu", "runtime.threads=1", "height=100", "width=100", "steps=2", "seed=3"]
LONG = ["cp=ring_anything", "height=300", "width=300", "steps=900"]
WHOLE = "FAMILY_SAMPLES" in os.environ
PATIENCE = 120  # seconds; a busy machine starts ranks slowly
PROMISED = 10  # seconds after which no rank is left anywhere


@dataclass
class Machines:
    """A launcher on each of two machines, machine 0 first."""

    folder: Path
    address: str = "127.0.0.1"
    before: tuple[list[str], list[str]] = ([], [])  # what goes before each line: into a host of its own
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def start(
        self, *words: str, others: tuple[str, ...] | None = None, secret: str | None = None, count: int = 2
    ) -> None:
        """Start the same line on both; `others`: another one on machine 1, `secret`: another one there.

        Args:
            count: 1: on machine 0 alone.
        """
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
        for number, line in enumerate((words, others or words)[:count]):
            env = hermetic(NNODES=str(count), NODE_RANK=str(number), MASTER_ADDR=self.address, MASTER_PORT=port)
            env["LAUNCHER_CLUSTER_SECRET"] = self.secret if secret is None or number == 0 else secret
            out = (self.folder / f"machine{number}.out").open("w")
            full = [*self.before[number], *command(*WORDS, *line)]
            self.started.append(
                subprocess.Popen(full, cwd=self.folder, env=env, stdout=out, stderr=subprocess.STDOUT, text=True)
            )

    def ended(self, timeout: float = PATIENCE) -> list[int]:
        """Their exit codes, once both have ended."""
        return [each.wait(timeout) for each in self.started]

    def said(self, number: int) -> str:
        """What the launcher of a machine has said last."""
        lines = (self.folder / f"machine{number}.out").read_text().splitlines()
        return next((line for line in reversed(lines) if line.startswith("launcher: ")), "")

    def processes(self) -> list[psutil.Process]:
        """All that is left of them: launchers, starting processes, ranks."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("LAUNCHER_CLUSTER_SECRET") == self.secret:
                    found.append(process)
        return [each for each in found if each.status() != psutil.STATUS_ZOMBIE]

    def denoises(self) -> None:
        """Wait until the ranks draw."""
        end = time.monotonic() + PATIENCE
        while "denoising" not in (self.folder / "machine0.out").read_text():
            assert time.monotonic() < end, (self.folder / "machine0.out").read_text()
            assert all(each.poll() is None for each in self.started)
            time.sleep(0.1)

    def launcher(self, number: int) -> psutil.Process:
        """The launcher of a machine, below what put it there."""
        return psutil.Process(self.started[number].pid)

    def none_left(self, since: float) -> None:
        """All processes are gone; told with the time that it took, which is promised on a machine that is not busy."""
        while left := self.processes():
            assert time.monotonic() - since < 6 * PROMISED, left
            time.sleep(0.1)

    def close(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for each in self.started:
            each.wait(30)


@pytest.fixture
def machines(tmp_path) -> Iterator[Machines]:
    made = Machines(tmp_path)
    yield made
    made.close()


def picture(folder: Path) -> np.ndarray:
    (path,) = folder.rglob("0000.png")
    return np.asarray(Image.open(path)).astype(int)


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: starts ranks several times")
def test_a_picture_of_two_machines_is_that_of_one_rank(machines, launch):
    machines.start("cp=unified_anything", "cp.ring_degree=2", "cp.ulysses_degree=2")
    assert machines.ended() == [0, 0], (machines.said(0), machines.said(1))
    drawn = picture(machines.folder)
    (record,) = machines.folder.rglob("run.json")
    found = read_record(record)
    assert found.hosts == (socket.gethostname(),) * 2
    assert found.config["cluster"]["name"] == "env"
    alone = launch(*WORDS[1:], "cp=none")
    assert abs(drawn - picture(alone.runs[0])).max() <= 1
    assert machines.secret not in record.read_text()
    machines.none_left(time.monotonic())


def test_the_ranks_of_two_machines_are_as_one_and_end_with_either(machines):
    machines.start(*LONG, "check=true")
    machines.denoises()
    since = time.monotonic()
    machines.launcher(1).kill()
    assert machines.ended() == [1, -signal.SIGKILL]
    assert "is gone: its launcher was killed, or it or the network is down" in machines.said(0)
    machines.none_left(since)
    (path,) = machines.folder.rglob("run.json")
    record = read_record(path)
    assert record.check.close
    assert record.hosts == (socket.gethostname(),) * 2
    assert record.status == "failed"
    assert machines.secret not in path.read_text()


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: starts ranks several times")
@pytest.mark.parametrize(
    ("number", "how", "told"),
    [
        (1, signal.SIGTERM, "was stopped by SIGTERM"),
        (0, signal.SIGKILL, "the first machine is gone: its launcher was killed, or it or the network is down"),
    ],
)
def test_a_machine_that_ends_ends_all_ranks_with_one_line(machines, number, how, told):
    machines.start(*LONG)
    machines.denoises()
    since = time.monotonic()
    machines.launcher(number).send_signal(how)
    codes = machines.ended()
    assert told in machines.said(1 - number)
    assert codes[1 - number] == 1
    machines.none_left(since)


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: starts two machines")
def test_a_launcher_that_is_killed_before_torch_has_met_leaves_nothing(machines):
    """torch's agents on the two machines would wait for each other for minutes."""
    machines.start(*LONG)
    end = time.monotonic() + PATIENCE
    while not machines.launcher(0).children():
        assert time.monotonic() < end, machines.said(0)
        time.sleep(0.02)
    since = time.monotonic()
    machines.launcher(0).kill()
    assert machines.ended() == [-signal.SIGKILL, 1]
    machines.none_left(since)


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: starts ranks several times")
def test_sigusr1_ends_after_the_picture_and_resume_goes_on(machines):
    machines.start("-m", "cp=ring_anything", "seed=1,2,3", "height=300", "width=300", "steps=60")
    end = time.monotonic() + PATIENCE
    while not (made := list(machines.folder.rglob("0000.png"))):
        assert time.monotonic() < end, machines.said(0)
        time.sleep(0.05)
    machines.launcher(0).send_signal(signal.SIGUSR1)
    assert machines.ended() == [128 + signal.SIGUSR1, 1]
    assert machines.said(0) == "launcher: interrupted by SIGUSR1"
    before = {path: path.read_bytes() for path in machines.folder.rglob("0000.png")}
    assert 1 <= len(before) < 3
    machines.started.clear()
    machines.start(
        "-m", "cp=ring_anything", "seed=1,2,3", "height=300", "width=300", "steps=60", f"resume={made[0].parents[1]}"
    )
    assert machines.ended() == [0, 0], machines.said(0)
    after = {path: path.read_bytes() for path in machines.folder.rglob("0000.png")}
    assert len(after) == 3
    assert before.items() <= after.items()


NETWORK = os.geteuid() == 0 and shutil.which("ip") is not None


@pytest.fixture
def hosts(tmp_path) -> Iterator[Machines]:
    """Two hosts with two cables between them: network namespaces."""
    name = f"ra{os.getpid()}"
    lines = [
        f"ip netns add {name}-0",
        f"ip netns add {name}-1",
        f"ip -n {name}-0 link add eth0 type veth peer name eth0 netns {name}-1",
        *(f"ip -n {name}-{n} addr add 10.213.7.{n + 1}/24 dev eth0" for n in range(2)),
        f"ip -n {name}-0 link add eth1 type veth peer name eth1 netns {name}-1",
        *(f"ip -n {name}-{n} addr add 10.213.8.{n + 1}/24 dev eth1" for n in range(2)),
        *(f"ip -n {name}-{n} link set {device} up" for n in range(2) for device in ("eth0", "eth1", "lo")),
    ]
    made = Machines(tmp_path, "10.213.7.1", tuple(["ip", "netns", "exec", f"{name}-{n}"] for n in range(2)))
    try:
        for line in lines:
            if subprocess.run(line.split(), capture_output=True).returncode:
                pytest.skip("not here: the kernel makes no network namespaces")
        made.name = name
        yield made
    finally:
        made.close()
        for n in range(2):
            subprocess.run(["ip", "netns", "del", f"{name}-{n}"], capture_output=True)


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: starts ranks several times")
@pytest.mark.skipif(not NETWORK, reason="not here: needs root and iproute2")
def test_a_cable_that_is_cut_while_denoising_ends_both_sides(hosts):
    hosts.start(*LONG)
    hosts.denoises()
    since = time.monotonic()
    subprocess.run(["ip", "-n", f"{hosts.name}-1", "link", "set", "eth0", "down"], check=True)
    assert hosts.ended() == [1, 1]
    assert "is gone: its launcher was killed, or it or the network is down" in hosts.said(0)
    assert "the first machine is gone: its launcher was killed, or it or the network is down" in hosts.said(1)
    hosts.none_left(since)


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: starts ranks several times")
@pytest.mark.skipif(not NETWORK, reason="not here: needs root and iproute2")
@pytest.mark.parametrize("left", [1, 2], ids=["what is left", "the host, once it is back"])
def test_a_host_that_dies_while_denoising_is_told_and_resume_goes_on_with(hosts, left):
    sweep = ["-m", "cp=ring_anything", "runtime.processes=2", "seed=1,2,3", "height=300", "width=300", "steps=200"]
    hosts.start(*sweep)
    end = time.monotonic() + PATIENCE
    while not (made := list(hosts.folder.rglob("0000.png"))):
        assert time.monotonic() < end, hosts.said(0)
        time.sleep(0.05)
    since = time.monotonic()
    cable = ["ip", "-n", f"{hosts.name}-1", "link", "set", "eth0"]
    subprocess.run([*cable, "down"], check=True)  # first, so that nobody hears how it ends
    there = subprocess.run(["ip", "netns", "pids", f"{hosts.name}-1"], capture_output=True, text=True, check=True)
    for pid in there.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    assert hosts.ended() == [1, -signal.SIGKILL]
    said = (hosts.folder / "machine0.out").read_text()
    assert "is gone: its launcher was killed, or it or the network is down" in said
    assert f"to run what is missing, add resume={made[0].parents[1].relative_to(hosts.folder)} to the same" in said
    hosts.none_left(since)
    before = {path: path.read_bytes() for path in hosts.folder.rglob("0000.png")}
    assert len(before) < 3
    subprocess.run([*cable, "up"], check=True)
    hosts.started.clear()
    hosts.start(*sweep, f"resume={made[0].parents[1]}", count=left)
    assert hosts.ended() == [0] * left, hosts.said(0)
    after = {path: path.read_bytes() for path in hosts.folder.rglob("0000.png")}
    assert len(after) == 3
    assert before.items() <= after.items()


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: starts ranks")
@pytest.mark.skipif(not NETWORK, reason="not here: needs root and iproute2")
def test_a_network_that_swallows_what_ranks_send_is_told_before_weights_are_loaded(hosts, monkeypatch):
    """As behind a firewall: the launchers reach each other by eth0, the ranks on eth1 get no answer."""
    subprocess.run(["ip", "-n", f"{hosts.name}-1", "route", "add", "blackhole", "10.213.8.1/32"], check=True)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth1")
    hosts.start(*LONG)
    assert hosts.ended() == [1, 1]
    assert "(eth1, 10.213.8." in hosts.said(0)
    assert "can't reach" in hosts.said(0)
    assert "a firewall between them, or another interface is the right one" in hosts.said(0)
    assert "loading ..." not in (hosts.folder / "machine0.out").read_text()
    hosts.none_left(time.monotonic())


def torchrun(folder: Path, flags: str, *words: str, secret: str = "") -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "torch.distributed.run", *flags.split(), "-m", "launcher", *words]
    env = hermetic(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    env |= {"LAUNCHER_CLUSTER_SECRET": secret} if secret else {}
    out = (folder / f"torchrun{len(list(folder.glob('torchrun*')))}.out").open("w")
    return subprocess.Popen(line, cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT, text=True)


def free() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: starts ranks")
def test_torchrun_starts_a_launcher_on_each_machine(tmp_path):
    port, own, secret = free(), free(), secrets.token_hex(16)
    flags = f"--nnodes 2 --nproc-per-node 1 --master-addr 127.0.0.1 --master-port {port} --node-rank"
    words = (*WORDS, "cp=ring_anything", f"cluster.port={own}")
    started = [torchrun(tmp_path, f"{flags} {number}", *words, secret=secret) for number in range(2)]
    try:
        assert [each.wait(2 * PATIENCE) for each in started] == [0, 0], (tmp_path / "torchrun0.out").read_text()
    finally:
        for each in started:
            each.kill()
            each.wait(30)
    (record,) = tmp_path.rglob("run.json")
    assert read_record(record).hosts == (socket.gethostname(),) * 2


@pytest.mark.skipif(not WHOLE, reason="only with FAMILY_SAMPLES: starts torchrun")
def test_torchrun_that_starts_several_launchers_is_told_that_one_is_enough(tmp_path):
    started = torchrun(tmp_path, "--standalone --nproc-per-node 2", "runtime=cpu")
    try:
        assert started.wait(PATIENCE) == 1
    finally:
        started.kill()
        started.wait(30)
    said = [line for line in (tmp_path / "torchrun0.out").read_text().splitlines() if line.startswith("launcher: clus")]
    assert said == ["launcher: cluster=none: torchrun started 2 launchers, and one starts all ranks"]
    assert not list(tmp_path.rglob("run.json"))
