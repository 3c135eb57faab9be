"""Messages over a socket, one a line.

On one machine it is a Unix socket, local by construction: it lies in a folder that only this user may enter, and is
unlinked once every rank is connected. Between machines it is TCP, and both ends have proved to know a secret (proof.py)
before a line is read. A rank must say its group's token first. Lines are limited in length, and nothing is unpickled or
executed.
"""

from __future__ import annotations

import os
import socket
import threading
import time

from launcher.wire import proof
from launcher.wire.messages import Kinds, Message, ProtocolError, pack, unpack

MAX_LINE = 16 << 20  # bytes: a job with a prompt file of the largest size, escaped, fits
SOCKET_VARIABLE = "LAUNCHER_SOCKET"
SECRET_VARIABLE = "LAUNCHER_SECRET"
ADDRESS_VARIABLE = "LAUNCHER_ADDRESS"  # HOST PORT, where ranks are on several machines
PLACE_VARIABLE = "LAUNCHER_PLACE"  # which of how many groups of ranks that work at once
STARTER_VARIABLE = "LAUNCHER_STARTER"  # the process that starts ranks of several machines: they end with it
STORE_VARIABLE = "LAUNCHER_STORE"  # a file in which ranks of one machine find each other
COMPILED_VARIABLE = "LAUNCHER_COMPILED"  # the folder that keeps what torch.compile has built, for runs to come


def of_machines(host: str, port: int, secret: str, token: str) -> dict[str, str]:
    """The variables by which a rank finds the launcher on another machine: the secret, and its group's token."""
    where = {ADDRESS_VARIABLE: f"{host} {port}", STARTER_VARIABLE: str(os.getpid())}
    return where | {proof.VARIABLE: secret, SECRET_VARIABLE: token}


class Channel:
    """One end of a connection; `closed` once the other end is gone.

    Args:
        hears: the kinds of message that the other end may send.
    """

    def __init__(self, connection: socket.socket, hears: Kinds) -> None:
        self.connection = connection
        self.closed = False
        self._hears = hears
        self._pending = bytearray()
        self._sending = threading.Lock()  # a rank's heartbeat comes from a thread of its own

    def send(self, message: Message) -> None:
        """Send one message whole.

        Raises:
            ProtocolError: it is longer than MAX_LINE.
            OSError: the other end is gone.
        """
        line = pack(message)
        if len(line) >= MAX_LINE:
            raise ProtocolError(f"a message of {len(line)} bytes; {MAX_LINE} are allowed")
        with self._sending:
            self.connection.sendall(line + b"\n")

    def first(self, patience: float) -> Message | None:
        """Read until the first message is whole; None if none comes within so many seconds.

        Raises:
            ProtocolError: as `receive`.
        """
        end = time.monotonic() + patience
        while not self.closed and (left := end - time.monotonic()) > 0:
            self.connection.settimeout(left)
            if messages := self.receive():
                return messages[0]
        return None

    def receive(self) -> list[Message]:
        """Read once, and return the messages that this completes; waits for data if there is none.

        Sets `closed` at the end of the stream.

        Raises:
            ProtocolError: something came that is not a message, or not one that the other end may send.
        """
        try:
            data = self.connection.recv(1 << 16)
        except (ConnectionError, TimeoutError):
            data = b""
        if not data:
            self.closed = True
            return []
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = bytes(self._pending) + lines[0]
            self._pending.clear()
        self._pending += rest
        if max(map(len, [*lines, self._pending])) > MAX_LINE:
            raise ProtocolError(f"a line of more than {MAX_LINE} bytes")
        return [unpack(line, self._hears) for line in lines]

    def close(self) -> None:
        """Close this end; the other one sees the end of the stream."""
        self.closed = True
        self.connection.close()
