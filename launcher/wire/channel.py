"""The line protocol between the launcher and its ranks: JSON objects, one a line, over a Unix socket.

Local by construction: the socket lies in a folder that only this user may enter, and is unlinked once every rank is
connected. A peer must say the run's secret first. Lines are limited in length, and nothing is unpickled or executed.
"""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

VERSION = 1
MAX_LINE = 16 << 20  # bytes: a job with a prompt file of the largest size, escaped, fits
SOCKET_VARIABLE = "LAUNCHER_SOCKET"
SECRET_VARIABLE = "LAUNCHER_SECRET"
OUT_OF_GPU_MEMORY = "out of GPU memory"  # how the cause of a rank that met its GPU's limit begins

Message = dict[str, Any]


class ProtocolError(Exception):
    """The other side sent what is no message."""


class Channel:
    """One end of a connection; `closed` once the other end is gone."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.closed = False
        self._pending = bytearray()
        self._sending = threading.Lock()  # a rank's heartbeat comes from a thread of its own

    def send(self, message: Message) -> None:
        """Send one message whole.

        Raises:
            ProtocolError: it is longer than MAX_LINE.
            OSError: the other end is gone.
        """
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        if len(line) > MAX_LINE:
            raise ProtocolError(f"a message of {len(line)} bytes; {MAX_LINE} are allowed")
        with self._sending:
            self.connection.sendall(line)

    def receive(self) -> list[Message]:
        """The messages that one read completes (waits for data if there is none); sets `closed` at the end."""
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
        return [_parse(line) for line in lines]

    def close(self) -> None:
        """Close this end; the other one sees the end of the stream."""
        self.closed = True
        self.connection.close()


def _parse(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a line that is no JSON: {line[:80]!r}") from error
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ProtocolError(f"a line that is no message: {line[:80]!r}")
    return message
