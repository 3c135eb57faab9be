"""Nothing is trusted before both ends have proved to know the secret; an end that can't learns nothing of it."""

from __future__ import annotations

import hmac
import socket
import threading

import pytest

from launcher.wire import proof
from launcher.wire.proof import SIZE, ProofError

SECRET = "0123456789abcdef" * 2


class Server:
    """Listens once with a secret; `outcome` is what became of it."""

    def __init__(self, secret=SECRET):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.outcome = None
        self.thread = threading.Thread(target=self._serve, args=(secret,), daemon=True)
        self.thread.start()

    def _serve(self, secret):
        connection, _ = self.listener.accept()
        try:
            proof.accepted(connection, secret)
            self.outcome = connection.recv(5)
        except (ProofError, OSError) as error:
            self.outcome = error
        connection.close()

    def ended(self):
        self.thread.join(30)
        self.listener.close()
        return self.outcome


def test_ends_with_one_secret_trust_each_other():
    server = Server()
    with proof.connected(server.address, SECRET, 5) as connection:
        connection.sendall(b"hello")
        assert server.ended() == b"hello"


def test_neither_end_trusts_one_with_another_secret():
    server = Server()
    with pytest.raises(ProofError, match="its secret is another one, perhaps"):
        proof.connected(server.address, SECRET[::-1], 5)
    assert isinstance(server.ended(), ProofError)


@pytest.mark.parametrize("words", [b"", b"GET / HTTP/1.0\r\n\r\n", b"\0" * 2 * SIZE])
def test_a_stranger_is_not_let_in(words, monkeypatch):
    monkeypatch.setattr(proof, "PATIENCE", 0.5)
    server = Server()
    with socket.create_connection(server.address) as stranger:
        assert len(stranger.recv(SIZE, socket.MSG_WAITALL)) == SIZE
        stranger.sendall(words)
        assert isinstance(server.ended(), (ProofError, TimeoutError))


def test_a_server_that_only_repeats_what_it_hears_is_not_believed():
    """It sends the client's own proof back, which is one of the other role."""
    listener = socket.create_server(("127.0.0.1", 0))

    def repeat():
        connection, _ = listener.accept()
        connection.sendall(b"\1" * SIZE)
        heard = connection.recv(2 * SIZE, socket.MSG_WAITALL)
        connection.sendall(heard[SIZE:])

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    with listener, pytest.raises(ProofError, match="another secret"):
        proof.connected(listener.getsockname(), SECRET, 5)
    thread.join(30)


def test_an_answer_is_of_no_use_a_second_time():
    first, second = Server(), Server()
    with socket.create_connection(first.address) as real:
        asked, mine = real.recv(SIZE, socket.MSG_WAITALL), b"\2" * SIZE
        answer = mine + hmac.digest(SECRET.encode(), b"connects" + asked + mine, "sha256")
        real.sendall(answer)
        assert len(real.recv(SIZE, socket.MSG_WAITALL)) == SIZE
    with socket.create_connection(second.address) as replayed:
        replayed.recv(SIZE, socket.MSG_WAITALL)
        replayed.sendall(answer)
        assert isinstance(second.ended(), ProofError)
    first.ended()
