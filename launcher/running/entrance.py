"""Where the ranks of a group connect: a socket in its folder, or the port at which several machines meet."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket

from launcher.running.cluster import TICK, Cluster
from launcher.running.folder import GroupFolder
from launcher.wire import channel, protocol
from launcher.wire.channel import Channel
from launcher.wire.messages import ProtocolError
from launcher.wire.protocol import Hello

PATIENCE = 5.0  # seconds that a rank has for its first words


class Entrance:
    """Open while a group starts. `token` is the group's: its ranks say it first."""

    def __init__(self, folder: GroupFolder, processes: int, cluster: Cluster | None) -> None:
        self.token, self._cluster, self._path = secrets.token_hex(16), cluster, folder.socket
        if cluster is None:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(self._path)
            self._listener.listen(processes)
            self._listener.settimeout(TICK)

    def variables(self) -> dict[str, str]:
        """By which this machine's ranks find it."""
        if self._cluster is None:
            return {channel.SOCKET_VARIABLE: self._path, channel.SECRET_VARIABLE: self.token}
        node = self._cluster.node
        return channel.of_machines(self._cluster.address, node.port, node.secret, self.token)

    def accept(self) -> tuple[Hello, Channel] | str | None:
        """The next rank of this group, why something else was refused, or None if nobody came."""
        connection = self._next()
        if connection is None or isinstance(connection, str):
            return connection
        peer = Channel(connection, protocol.FROM_RANK)
        try:
            hello = peer.first(PATIENCE)
            if not isinstance(hello, Hello) or hello.version != protocol.VERSION:
                raise ProtocolError(f"not a hello of protocol version {protocol.VERSION}")
            if not secrets.compare_digest(hello.secret.encode(errors="replace"), self.token.encode()):
                raise ProtocolError("without the secret")
            if self._cluster is not None and hello.address is None:
                raise ProtocolError("without an address")
        except (ProtocolError, OSError) as error:
            peer.close()
            return str(error)
        return hello, peer

    def _next(self) -> socket.socket | str | None:
        if self._cluster is not None:
            return self._cluster.accept()
        try:
            return self._listener.accept()[0]
        except TimeoutError:
            return None

    def close(self) -> None:
        """Nobody else is waited for."""
        if self._cluster is None:
            self._listener.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
