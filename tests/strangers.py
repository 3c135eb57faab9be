"""Who connects to a launcher and to its ranks, and is none of them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import threading
import time
from pathlib import Path

import psutil
from shared import Group, group, ports_of

from launcher.wire import channel, protocol


class Strangers:
    """Connect to the launcher while it waits for its ranks, and to the ranks once they listen for each other.

    They say what no rank says; in `held` are the connections that ranks were left with.
    """

    def __init__(self) -> None:
        self.held: list[socket.socket] = []
        self.done = threading.Event()

    def __call__(self, _group: Group, _folder: Path) -> None:
        threading.Thread(target=self._visit, daemon=True).start()

    def _visit(self) -> None:
        folder = Path(tempfile.gettempdir())
        while not (found := list(folder.glob("launcher-*/ranks"))):
            time.sleep(0.01)
        while (agent := group(psutil.Process()).agent) is None:
            time.sleep(0.01)
        secret = agent.environ()[channel.SECRET_VARIABLE]
        hello = {"kind": "hello", "version": protocol.VERSION, "secret": secret, "rank": 0, "pid": os.getpid()}
        self.said = [
            json.dumps({**hello, "secret": "0" * 32}).encode() + b"\n",
            json.dumps({**hello, "version": protocol.VERSION + 1}).encode() + b"\n",
            json.dumps({**hello, "rank": 7}).encode() + b"\n",
            json.dumps({**hello, "pid": None}).encode() + b"\n",
            b'{"kind": "hello", "version"\n',
            b"[1, 2]\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.\n",
            b"{" + b" " * channel.MAX_LINE + b"\n",
            b"\0" * 100_000,
            b"",
        ]
        for words in self.said:
            with socket.socket(socket.AF_UNIX) as stranger, contextlib.suppress(ConnectionError):
                stranger.connect(str(found[0]))
                stranger.sendall(words)
                stranger.shutdown(socket.SHUT_WR)
                assert stranger.recv(1) == b""  # no answer, and the door is shut
        self._visit_ranks()

    def _visit_ranks(self) -> None:
        ports: set[tuple[str, int]] = set()
        ends = time.monotonic() + 60
        while len(ports) < 2 and time.monotonic() < ends:
            for port in ports_of(group(psutil.Process())) - ports:
                ports.add(port)
                for words in (b"", b"\1\0", b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096)):
                    with contextlib.suppress(OSError):  # the group has ended
                        self.held.append(socket.create_connection(port))
                        self.held[-1].sendall(words)
        self.done.set()
