"""Messages over a Unix socket, one a line.

Local by construction: the socket lies in a folder that only this user may enter, and is unlinked once every rank is
connected. A peer must say the group's secret first. Lines are limited in length, and nothing is unpickled or executed.
"""

from __future__ import annotations

import socket
import threading

from launcher.wire.protocol import Kinds, Message, ProtocolError, pack, unpack

MAX_LINE = 16 << 20  # bytes: a job with a prompt file of the largest size, escaped, fits
SOCKET_VARIABLE = "LAUNCHER_SOCKET"
SECRET_VARIABLE = "LAUNCHER_SECRET"
PLACE_VARIABLE = "LAUNCHER_PLACE"  # which of how many groups of ranks that work at once
STORE_VARIABLE = "LAUNCHER_STORE"  # a file in which ranks of one machine find each other


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
