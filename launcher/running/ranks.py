"""The processes of a group's ranks: started, let in as they connect, ended as one."""

from __future__ import annotations

import selectors
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from launcher.problems import RunFailed
from launcher.records.run_dir import RunDir
from launcher.running import failures, started
from launcher.running.cluster import Cluster
from launcher.running.entrance import Entrance
from launcher.running.folder import GroupFolder
from launcher.running.started import END_TIMEOUT
from launcher.running.starters import accelerate
from launcher.running.watch import AwakeClock
from launcher.wire import channel
from launcher.wire.agents import Start
from launcher.wire.channel import Channel
from launcher.wire.jobs import Load
from launcher.wire.messages import ProtocolError
from launcher.wire.protocol import Address, Stop

SEND_TIMEOUT = 30.0  # seconds that a rank has to take a job; one that was stopped takes none


@dataclass(frozen=True)
class GroupKey:
    """What the ranks of a group have in common; a job with an equal key can use the group."""

    processes: int
    devices: tuple[int, ...]
    threads: tuple[int, ...]
    start_timeout: float
    load: Load
    nodes: int = 1


class Ranks:
    """Ranks by number: their channels, processes and addresses.

    Args:
        key: how many ranks, where, and which weights they hold.
        log: what their starting process says.
        place: which of how many groups that work at once.
        cluster: the machines that the ranks are on, if those are several.
        variables: of the job's own, for the environment of the ranks on this machine.
    """

    def __init__(
        self, key: GroupKey, log: Path, place: tuple[int, int], cluster: Cluster | None, variables: Mapping[str, str]
    ) -> None:
        self.key, self.log, self._place, self._cluster, self._variables = key, log, place, cluster, variables
        self.channels: dict[int, Channel] = {}
        self.pids: dict[int, int] = {}
        self.addresses: dict[int, Address] = {}
        self.processes: dict[int, psutil.Process] = {}  # of those on this machine
        self.process: subprocess.Popen[bytes] | None = None  # that started them
        self.selector = selectors.DefaultSelector()  # by rank; by the negative number of its machine for an agent
        self.folder = GroupFolder()

    @property
    def up(self) -> bool:
        """Whether they and the process that started them are there, as far as is known."""
        return bool(self.channels) and self.process is not None and self.process.poll() is None

    @property
    def connected(self) -> int:
        """Ranks whose streams have not ended."""
        return sum(key.data >= 0 for key in self.selector.get_map().values())

    def start(self, run_dir: RunDir) -> None:
        """Start the ranks and wait until all are there; whoever calls ends them if that fails.

        Raises:
            RunFailed: they did not come up.
        """
        key, cluster, machines = self.key, self._cluster, None
        accelerate.prepare(self.folder.path)
        entrance = Entrance(self.folder, key.processes, cluster)
        try:
            if cluster is not None:
                cluster.compare(run_dir, key.load.path)
                machines = cluster.machines(0, cluster.free_port())
                self._start_others(cluster, entrance.token, machines.port)
            environment = self._environment() | entrance.variables()
            environment[channel.PLACE_VARIABLE] = f"{self._place[0]} {self._place[1]}"
            command = accelerate.command(key.processes, self.folder.path, machines)
            self.process = started.start(command, environment, self.log)
            self._await(entrance, run_dir)
        finally:
            entrance.close()

    def end(self, now: bool = False) -> None:
        """End the ranks and the process that started them; none of them is left when this returns."""
        if not now:
            for peer in self.channels.values():
                try:
                    peer.send(Stop())
                except OSError:
                    now = True
        if self._cluster is not None:
            self._cluster.end(now)
        if not now:
            now = not started.gone(self.process, END_TIMEOUT)
        started.end(self.process, self.processes.values(), now)
        if self._cluster is not None:
            self._cluster.wait(2 * END_TIMEOUT)
        for peer in self.channels.values():
            peer.close()
        self.channels.clear()
        self.selector.close()
        self.folder.remove()

    def node(self, rank: int) -> int:
        """The machine that a rank is on."""
        return rank // (self.key.processes // self.key.nodes)

    def log_of(self, node: int) -> Path:
        """What the starting process of a machine says."""
        return self.log if node == 0 else self.log.with_name(f"start{node}.log")

    def _start_others(self, cluster: Cluster, token: str, port: int) -> None:
        """Have the other machines start their ranks, and hear of them from now on."""
        key, each = self.key, self.key.processes // self.key.nodes
        for agent in cluster.agents.values():
            threads = key.threads[agent.node * each : (agent.node + 1) * each]
            log = str(self.log_of(agent.node).absolute())
            load = key.load
            agent.start(Start(token, key.processes, port, load.device, key.devices, threads, load.deterministic, log))
            self.selector.register(agent.channel.connection, selectors.EVENT_READ, -agent.node)

    def _await(self, entrance: Entrance, run_dir: RunDir) -> None:
        """Wait for all ranks to connect."""
        assert self.process is not None
        clock = AwakeClock()
        while len(self.channels) < self.key.processes:
            self._accept(entrance)
            if len(self.channels) == self.key.processes:
                break
            if (code := self.process.poll()) is not None:
                cause = failures.last_words(self.log) or f"exit code {code}"
                raise RunFailed(f"the ranks did not start: {cause} (log: {self.log})")
            if self._cluster is not None and (trouble := self._cluster.trouble(listen=True)):
                raise RunFailed(f"the ranks did not start: {trouble} (logs: {run_dir.logs})")
            if clock() > self.key.start_timeout:
                have = f"{len(self.channels)} of {self.key.processes} ranks"
                limit = f"runtime.start_timeout={self.key.start_timeout:g} s"
                raise RunFailed(f"only {have} started within {limit} (log: {self.log})")

    def _accept(self, entrance: Entrance) -> None:
        """Take in the next rank; who else comes is noted in the log."""
        accepted = entrance.accept()
        if accepted is None:
            return
        try:
            if isinstance(accepted, str):
                raise ProtocolError(accepted)
            hello, peer = accepted
            rank = hello.rank
            if rank in self.channels or not 0 <= rank < self.key.processes:
                raise ProtocolError(f"as rank {rank}, which is not expected")
            if self.node(rank) == 0:
                self.processes[rank] = psutil.Process(hello.pid)
        except (ProtocolError, ValueError, OverflowError, psutil.Error) as error:  # a pid that is none
            with self.log.open("a", encoding="utf-8", errors="backslashreplace") as log:
                print(f"launcher: refused a connection: {type(error).__name__}: {error}", file=log)
            if not isinstance(accepted, str):
                accepted[1].close()
            return
        self.pids[rank] = hello.pid
        if hello.address is not None:
            self.addresses[rank] = hello.address
        peer.connection.settimeout(SEND_TIMEOUT)
        self.channels[rank] = peer
        self.selector.register(peer.connection, selectors.EVENT_READ, rank)

    def _environment(self) -> dict[str, str]:
        key = self.key
        threads = key.threads[: key.processes // key.nodes]
        interface = None if self._cluster is None else self._cluster.interface
        how = (key.load.device, key.devices, threads, self.folder.path, key.load.deterministic, interface)
        return accelerate.environment(*how, self._variables)
