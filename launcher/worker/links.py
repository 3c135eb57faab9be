"""Whether ranks of several machines reach each other: tried once, before anything is loaded.

A firewall between two machines, or an interface that leads elsewhere, is else a wait of minutes without a word.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil

from launcher.wire.protocol import Address

DEADLINE = 20.0  # seconds for all links of a rank


class LinkError(Exception):
    """A rank can't be reached."""


class Door:
    """Listens where gloo will: on the interface of GLOO_SOCKET_IFNAME.

    Raises:
        LinkError: there is no such interface, or it has no address.
    """

    def __init__(self) -> None:
        name = os.environ["GLOO_SOCKET_IFNAME"]
        known = psutil.net_if_addrs()
        found = [each.address for each in known.get(name, ()) if each.family == socket.AF_INET]
        if not found:
            has = ", ".join(sorted(known))
            raise LinkError(f"{socket.gethostname()} has no interface {name} with an address (it has {has})")
        self._listener = socket.create_server((found[0], 0), backlog=512)  # the system answers; nobody need accept
        self.address = Address(socket.gethostname(), name, found[0], self._listener.getsockname()[1])

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


def reach(mine: Address, others: Sequence[Address]) -> None:
    """Connect once to each of the others.

    Raises:
        LinkError: one can't be reached within DEADLINE; it names both hosts and interfaces.
    """
    end = time.monotonic() + DEADLINE

    def reached(other: Address) -> None:
        try:
            left = max(0.1, end - time.monotonic())
            with socket.create_connection((other.address, other.port), left, source_address=(mine.address, 0)):
                return
        except OSError as error:
            why = f"no answer within {DEADLINE:g} s" if isinstance(error, TimeoutError) else error.strerror
            told = f"{mine} can't reach {other}: {why}; a firewall between them, or another interface is the right one"
            raise LinkError(f"{told} (GLOO_SOCKET_IFNAME names it)") from error

    if others:
        with ThreadPoolExecutor(len(others)) as threads:
            for _ in threads.map(reached, others):
                pass
