import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import channel
from launcher.channel import Channel, ProtocolError

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.text(max_size=5), values, max_size=4), max_size=5))
def test_what_is_sent_arrives_in_order(messages):
    messages = [{**message, "kind": "x"} for message in messages]
    left, right = socket.socketpair()
    one, other = Channel(left), Channel(right)
    for message in messages:
        one.send(message)
    one.close()
    received = []
    while not other.closed:
        received += other.receive()
    other.close()
    assert received == messages


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_break_the_protocol(data):
    left, right = socket.socketpair()
    peer = Channel(right)
    left.sendall(data)
    left.close()
    try:
        while not peer.closed:
            for message in peer.receive():
                assert isinstance(message["kind"], str)
    except ProtocolError:
        pass
    finally:
        peer.close()


def test_lines_are_limited(monkeypatch):
    monkeypatch.setattr(channel, "MAX_LINE", 100)
    left, right = socket.socketpair()
    with left, right:
        with pytest.raises(ProtocolError, match="100 are allowed"):
            Channel(left).send({"kind": "x", "text": "a" * 100})
        left.sendall(b"a" * 200)
        with pytest.raises(ProtocolError, match="more than 100"):
            Channel(right).receive()
