"""Several machines, as the first one's launcher sees them: it listens, and an agent on each of the others connects.

Before any weights are loaded the machines are compared: versions, the run's folder, the model's files.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from launcher.machines import here
from launcher.nodes import Node, host
from launcher.problems import Problem, Refused, RunFailed
from launcher.records.run_dir import RunDir, versions
from launcher.running.alike import TOKEN, difference, listing
from launcher.running.starters.accelerate import Machines, interface_of
from launcher.wire import proof, protocol
from launcher.wire.agents import FROM_AGENT, End, Ended, Join, Leave, Look, Seen
from launcher.wire.channel import Channel
from launcher.wire.messages import Message, ProtocolError
from launcher.wire.proof import ProofError
from launcher.wording import plural, shorten

if TYPE_CHECKING:
    from launcher.running.summoned import Summoned

TICK = 0.1  # seconds between looks at what may have ended
PATIENCE = 60.0  # seconds that an agent has to look at its files
SEND_TIMEOUT = 10.0  # seconds that an agent has to take a message
CLOCKS = 2.0  # seconds that two machines' clocks may differ, without a word


class Agent:
    """One of the other machines. `ended`: how its ranks ended, None while they run; `lost`: it is gone, or leaves."""

    def __init__(self, join: Join, channel: Channel) -> None:
        self.node, self.host, self.channel = join.node, shorten(join.host, 60), channel
        self.ended: str | None = ""
        self.lost = False

    def __str__(self) -> str:
        return f"machine {self.node} ({self.host})"

    def receive(self) -> list[Message]:
        """What it says; notes how its ranks ended, and whether it is gone itself."""
        try:
            messages = self.channel.receive()
        except (ProtocolError, OSError):
            messages, self.channel.closed = [], True
        for message in messages:
            if isinstance(message, Ended):
                self.ended, self.lost = message.cause, self.lost or message.stopped
        self.lost = self.lost or self.channel.closed
        return messages

    def start(self, message: Message) -> None:
        """Have it start its ranks."""
        self.ended = None
        self.send(message)

    def send(self, message: Message) -> None:
        """Send; one that is gone is noticed when it is listened to."""
        with contextlib.suppress(OSError):
            self.channel.send(message)


class Cluster:
    """The machines of one session, from when all have come together until `close`.

    Args:
        node: this one, the first.
        timeout: seconds that they have to come together.
        note: is told what differs and changes nothing.
        summon: starts the agents, where this launcher has to, once they can connect to the node that it is given.

    Raises:
        Refused: this machine can't be reached there, or another one differs in what makes pictures.
        RunFailed: they did not come in time.
    """

    def __init__(
        self,
        node: Node,
        timeout: float,
        note: Callable[[str], None],
        summon: Callable[[Node], Summoned] | None = None,
    ) -> None:
        self._note = note
        self.agents: dict[int, Agent] = {}
        self.listener, self.interface = _listen(node)
        self.address, port = self.listener.getsockname()
        self.node = replace(node, port=port)
        self._summoned: Summoned | None = None
        try:
            self._summoned = None if summon is None else summon(self.node)
            self._gather(timeout)
        except BaseException as error:
            self.close(1, str(error))
            raise

    @property
    def hosts(self) -> tuple[str, ...]:
        """The machines' names, by number."""
        return (host(), *(agent.host for _, agent in sorted(self.agents.items())))

    def _gather(self, timeout: float) -> None:
        end, refused = time.monotonic() + timeout, ""
        self.listener.settimeout(TICK)
        while len(self.agents) < self.node.count - 1:
            if self._summoned is not None and (how := self._summoned.ended()):
                raise RunFailed(f"the other nodes were not reached: {how}")
            if time.monotonic() > end:
                missing = [number for number in range(1, self.node.count) if number not in self.agents]
                who = ", ".join(f"machine {number}" for number in missing)
                where = f"{self.address} port {self.node.port}"
                raise RunFailed(
                    f"{who} did not come to {where} within cluster.join_timeout={timeout:g} s"
                    + (f"; refused there: {refused}" if refused else "; is the launcher started there, or a firewall?")
                )
            if (connection := self.accept()) is None:
                continue
            if isinstance(connection, str):
                refused = connection
                continue
            channel = Channel(connection, FROM_AGENT)
            try:
                join = channel.first(SEND_TIMEOUT)
                connection.settimeout(SEND_TIMEOUT)
                refused = self._joined(join, channel) or refused
            except (ProtocolError, OSError) as error:
                refused = shorten(str(error))
                channel.close()

    def accept(self) -> socket.socket | str | None:
        """One more connection whose other end knows the secret, why it was refused, or None if nobody came."""
        try:
            connection, (host, *_) = self.listener.accept()
        except TimeoutError:
            return None
        try:
            proof.accepted(connection, self.node.secret)
            proof.keep_alive(connection)
        except (ProofError, OSError) as error:
            connection.close()
            return f"{host}: {error}"
        connection.settimeout(SEND_TIMEOUT)
        return connection

    def _joined(self, join: Message | None, channel: Channel) -> str:
        """Take an agent in, or say why not."""
        if not isinstance(join, Join):
            channel.close()
            return "not a launcher's first words"
        name, wrong = shorten(join.host, 60), ""
        if join.count != self.node.count:
            wrong = f"{name} counts {plural(join.count, 'machine')}, and this one {self.node.count}"
        elif not 0 < join.node < self.node.count or join.node in self.agents:
            wrong = f"{name} says that it is machine {join.node}, which has come already or can't be"
        if wrong:
            channel.send(Leave(1, wrong))
            channel.close()
            return wrong
        agent = self.agents[join.node] = Agent(join, channel)
        mine = versions()
        different = [name for name in mine if join.versions.get(name) != mine[name]]
        if join.version != protocol.VERSION or different:
            raise Refused(
                Problem(
                    name,
                    f"{mine[name]} here and {shorten(str(join.versions.get(name)), 40)} on {agent}",
                    "install the same on every machine",
                )
                for name in different or ["launcher"]
            )
        if join.devices != (own := devices()):
            ours, theirs = ("; ".join(each) for each in (own, join.devices))
            self._note(f"{agent} has {shorten(theirs)}, and this one {ours}: ranks get equal shares all the same")
        if abs(ahead := join.clock - time.time()) > CLOCKS:
            how = "ahead of" if ahead > 0 else "behind"
            self._note(f"the clock of {agent} is {abs(ahead):.0f} s {how} this one's: its logs tell other times")
        return ""

    def compare(self, run_dir: RunDir, model: str) -> None:
        """See that all machines see one run folder, and the same files of the model.

        Raises:
            RunFailed: one does not.
        """
        token, path = secrets.token_hex(16), run_dir.path / TOKEN
        path.write_text(token, encoding="ascii")
        try:
            look = Look(str(path.absolute()), token, model)
            for agent in self.agents.values():
                agent.send(look)
            mine = listing(model)
            for agent in self.agents.values():
                if different := difference(self._answer(agent), mine, run_dir.path, model):
                    raise RunFailed(f"{agent} {different}")
        finally:
            path.unlink(missing_ok=True)

    def _answer(self, agent: Agent) -> Seen:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if select.select([agent.channel.connection], [], [], TICK)[0]:
                for message in agent.receive():
                    if isinstance(message, Seen):
                        return message
                if agent.lost:
                    raise RunFailed(self.told(agent))
        raise RunFailed(f"{agent} did not look at its files within {PATIENCE:g} s")

    def machines(self, number: int, port: int) -> Machines:
        """What `accelerate launch` on one machine is told of all."""
        return Machines(self.node.count, number, self.address, port)

    def told(self, agent: Agent) -> str:
        """In words what became of one that is gone."""
        if agent.ended:
            return f"{agent} {agent.ended}"
        told = f"{agent} is gone: its launcher was killed, or it or the network is down"
        why = "" if self._summoned is None else self._summoned.words()
        return f"{told}; Slurm says: {why}" if why else told

    def free_port(self) -> int:
        """A port that nobody listens on here."""
        with socket.create_server((self.address, 0)) as server:
            return int(server.getsockname()[1])

    def lost(self) -> str:
        """Which machine is gone, "" if none is."""
        return next((self.told(agent) for agent in self.agents.values() if agent.lost), "")

    def trouble(self, listen: bool = False) -> str:
        """Which machine is gone, or has no ranks any more; "" if all is well.

        Args:
            listen: hear first what the agents have said.
        """
        if listen:
            ready = select.select([agent.channel.connection for agent in self.agents.values()], [], [], 0)[0]
            for agent in self.agents.values():
                if agent.channel.connection in ready:
                    agent.receive()
        return self.lost() or next((f"{agent}: {agent.ended}" for agent in self.agents.values() if agent.ended), "")

    def wait(self, timeout: float) -> None:
        """Wait until the agents have told how their ranks ended."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            running = [agent for agent in self.agents.values() if agent.ended is None and not agent.lost]
            if not running:
                return
            ready = select.select([agent.channel.connection for agent in running], [], [], TICK)[0]
            for agent in running:
                if agent.channel.connection in ready:
                    agent.receive()

    def end(self, now: bool) -> None:
        """Have the other machines end their ranks, and do not wait."""
        for agent in self.agents.values():
            if agent.ended is None and not agent.lost:
                agent.send(End(now))

    def close(self, code: int, words: str = "") -> None:
        """Let the agents end, with this exit code and these last words."""
        for agent in self.agents.values():
            agent.send(Leave(code, words))
            agent.channel.close()
        self.listener.close()
        if self._summoned is not None:
            self._summoned.close()


def _listen(node: Node) -> tuple[socket.socket, str]:
    """A socket at the address that all machines know, and the interface that it is on."""
    try:
        address = socket.getaddrinfo(node.address, node.port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    except OSError as error:
        value, rule = f"MASTER_ADDR={node.address}", f"can't be resolved: {error.strerror}"
        raise Refused([Problem(value, rule, "set it to the first machine's address")]) from error
    interface = interface_of(str(address[0]))
    if interface is None:
        rule = f"{address[0]} is no address of this machine, which is the first (NODE_RANK=0)"
        raise Refused([Problem(f"MASTER_ADDR={node.address}", rule, "set it to this machine's own address")])
    try:
        return socket.create_server((str(address[0]), node.port), backlog=512), interface
    except OSError as error:
        rule = f"can't be listened at: {os.strerror(error.errno or 0)}"
        instead = "type cluster.port=NUMBER, a free one, on every machine (torchrun itself uses MASTER_PORT)"
        raise Refused([Problem(f"port {node.port} of {address[0]}", rule, instead)]) from error


def devices() -> tuple[str, ...]:
    """What this machine computes with: the names of its GPUs, or how many cores it has."""
    machine = here()
    return tuple(gpu.name for gpu in machine.gpus) or (f"cpu ({machine.cores} cores)",)
