"""The launcher on a machine that is not the first: it starts ranks there, as the first one's launcher asks for them.

It reads no configuration of its own: what to run is composed once, by the first machine.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from pathlib import Path

from launcher.nodes import Node, host
from launcher.problems import Interrupted, RunFailed
from launcher.records.run_dir import versions
from launcher.running import failures, started
from launcher.running.alike import fits, listing
from launcher.running.cluster import TICK, devices
from launcher.running.folder import GroupFolder
from launcher.running.starters import accelerate
from launcher.wire import channel, proof, protocol
from launcher.wire.agents import TO_AGENT, End, Ended, Join, Leave, Look, Seen, Start
from launcher.wire.channel import Channel
from launcher.wire.messages import ProtocolError
from launcher.wire.proof import ProofError


def serve(node: Node, timeout: float) -> int:
    """Serve the first machine until it lets this one end; returns the exit code that it gives.

    Args:
        timeout: seconds that the first machine has to be there.

    Raises:
        RunFailed: it is not there, does not know the secret, or is gone.
    """
    peer = _join(node, timeout)
    agent = _Agent(node, peer)
    try:
        return agent.serve()
    except Interrupted as interrupted:
        agent.tell(f"was stopped by {signal.Signals(interrupted.signum).name}", stopped=True)
        raise
    finally:
        agent.end(now=True)
        peer.close()


def _join(node: Node, timeout: float) -> Channel:
    where, end = f"{node.address} port {node.port}", time.monotonic() + timeout
    while True:
        try:
            connection = proof.connected((node.address, node.port), node.secret, 5.0)
            break
        except ProofError as error:
            told = f"the first machine, at {where}, has not proved to know {proof.VARIABLE}: {error}"
            raise RunFailed(f"{told}; set the same on every machine") from error
        except OSError as error:
            if time.monotonic() > end:
                why = error.strerror or str(error)
                limit = f"cluster.join_timeout={timeout:g} s"
                raise RunFailed(f"the first machine can't be reached at {where} within {limit}: {why}") from error
            time.sleep(5 * TICK)
    peer = Channel(connection, TO_AGENT)
    peer.send(Join(protocol.VERSION, node.number, node.count, host(), time.time(), versions(), devices()))
    return peer


class _Agent:
    """What is started here, and the connection to who asked for it."""

    def __init__(self, node: Node, peer: Channel) -> None:
        self._node, self._peer = node, peer
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: GroupFolder | None = None
        self._log = Path(os.devnull)

    def serve(self) -> int:
        while True:
            if select.select([self._peer.connection], [], [], TICK)[0]:
                try:
                    messages = self._peer.receive()
                except ProtocolError as error:
                    raise RunFailed(f"the first machine broke the protocol: {error}") from error
                for message in messages:
                    if isinstance(message, Look):
                        self._peer.send(Seen(fits(message), listing(message.model)))
                    elif isinstance(message, Start):
                        self._start(message)
                    elif isinstance(message, End):
                        self.end(message.now)
                        self.tell("")
                    elif isinstance(message, Leave):
                        if message.words:
                            raise RunFailed(f"the first machine ended: {message.words}")
                        return message.code
                if self._peer.closed:
                    raise RunFailed("the first machine is gone: its launcher was killed, or it or the network is down")
            if self._process is not None and (code := self._process.poll()) is not None:
                self.end(now=True)
                self.tell(failures.how_it_died(code, self._log))

    def tell(self, cause: str, stopped: bool = False) -> None:
        """Tell how the ranks here ended; whoever is gone needs no telling."""
        with contextlib.suppress(OSError):
            self._peer.send(Ended(cause, stopped))

    def _start(self, start: Start) -> None:
        self.end(now=True)
        node, self._log = self._node, Path(start.log)
        self._folder = GroupFolder()
        accelerate.prepare(self._folder.path)
        address = self._peer.connection.getpeername()[0]
        mine = accelerate.interface_of(self._peer.connection.getsockname()[0])
        machines = accelerate.Machines(node.count, node.number, address, start.port)
        command = accelerate.command(start.processes, self._folder.path, machines)
        how = (start.device, start.devices, start.threads, self._folder.path, start.deterministic, mine)
        environment = accelerate.environment(*how) | channel.of_machines(address, node.port, node.secret, start.token)
        try:
            self._process = started.start(command, environment, self._log)
        except (RunFailed, OSError) as error:
            self.tell(str(error))

    def end(self, now: bool) -> None:
        """End the ranks here."""
        if not now:
            now = not started.gone(self._process, started.END_TIMEOUT)
        started.end(self._process, (), now)
        self._process = None
        if self._folder is not None:
            self._folder.remove()
            self._folder = None
