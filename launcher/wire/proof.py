"""Two programs on a network prove to each other that they know a secret, before either reads anything else.

    who listens -> who connects   a
    who connects -> who listens   b, HMAC(secret, "connects" a b)
    who listens -> who connects   HMAC(secret, "listens" a b)

a and b are 32 random bytes, HMAC is by SHA-256 (RFC 2104). The secret itself is never sent, an answer is of no use in
another connection, and the roles are in it, so that none can be sent back. What follows is not encrypted.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket

SIZE = 32  # bytes of a random number, and of an HMAC
PATIENCE = 5.0  # seconds that the other side has for each of its answers
VARIABLE = "LAUNCHER_CLUSTER_SECRET"  # the environment's, with what these machines share; set by the user
LEAST = 32  # characters of a secret: who listens in could try all short ones
# A host that is gone says nothing: the system asks for it after 2 s of silence, twice, 2 s apart.
KEEPALIVE = {"TCP_KEEPIDLE": 2, "TCP_KEEPALIVE": 2, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 6000}


class ProofError(Exception):
    """The other side does not know the secret, or speaks another language."""


def accepted(connection: socket.socket, secret: str) -> None:
    """Prove it to who has connected, once they have.

    Raises:
        ProofError: they could not.
        OSError: they are gone, or too slow.
    """
    connection.settimeout(PATIENCE)
    asked = secrets.token_bytes(SIZE)
    connection.sendall(asked)
    answer = _exactly(connection, 2 * SIZE)
    both = asked + answer[:SIZE]
    if not hmac.compare_digest(answer[SIZE:], _mac(secret, b"connects", both)):
        raise ProofError("another secret")
    connection.sendall(_mac(secret, b"listens", both))


def connected(address: tuple[str, int], secret: str, timeout: float) -> socket.socket:
    """A connection to who listens there, once both have proved that they know the secret.

    Raises:
        ProofError: they could not.
        OSError: there is nobody, or they are gone.
    """
    connection = socket.create_connection(address, timeout)
    try:
        connection.settimeout(PATIENCE)
        asked, mine = _exactly(connection, SIZE), secrets.token_bytes(SIZE)
        connection.sendall(mine + _mac(secret, b"connects", asked + mine))
        if not hmac.compare_digest(_exactly(connection, SIZE), _mac(secret, b"listens", asked + mine)):
            raise ProofError("another secret")
        keep_alive(connection)
        connection.settimeout(None)
    except BaseException:
        connection.close()
        raise
    return connection


def keep_alive(connection: socket.socket) -> None:
    """Have the system end a connection to a host that has not answered for about 6 seconds."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # Linux and macOS call them by other names
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _mac(secret: str, role: bytes, numbers: bytes) -> bytes:
    return hmac.digest(secret.encode(), role + numbers, hashlib.sha256)


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        data = connection.recv(count - len(found))
        if not data:  # which is how a side that was not convinced ends it
            raise ProofError("the other side ended the connection: its secret is another one, perhaps")
        found += data
    return found
