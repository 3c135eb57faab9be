"""Each link between machines is tried, and an error names both ends."""

from __future__ import annotations

import dataclasses
import socket

import pytest

from launcher.running.starters.accelerate import interface_of
from launcher.worker import links
from launcher.worker.links import Door, LinkError, reach

LO = interface_of("127.0.0.1")


def test_a_door_is_reached_and_a_closed_one_is_named_with_both_ends(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", LO)
    one, other = Door(), Door()
    assert (one.address.address, one.address.interface) == ("127.0.0.1", LO)
    reach(one.address, [other.address, other.address])
    reach(one.address, [])
    other.close()
    gone = dataclasses.replace(other.address, host="there")
    with pytest.raises(LinkError) as error:
        reach(one.address, [one.address, gone])
    here = socket.gethostname()
    told = f"{here} ({LO}, 127.0.0.1) can't reach there ({LO}, 127.0.0.1): Connection refused; a firewall between them"
    assert str(error.value).startswith(told)
    one.close()


def test_one_that_does_not_answer_is_told_after_the_deadline(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", LO)
    monkeypatch.setattr(links, "DEADLINE", 0.3)
    door = Door()
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    held = [socket.socket() for _ in range(3)]  # its queue is full: the system drops what else comes, as a firewall
    for each in held:
        each.setblocking(False)
        each.connect_ex(full.getsockname())
    silent = dataclasses.replace(door.address, host="there", port=full.getsockname()[1])
    with pytest.raises(LinkError, match=r"there .*: no answer within 0.3 s; a firewall"):
        reach(door.address, [silent])
    for each in (*held, full):
        each.close()
    door.close()


def test_an_interface_that_is_not_here_is_told(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nothing0")
    with pytest.raises(LinkError, match=r"has no interface nothing0 with an address \(it has .*lo"):
        Door()
