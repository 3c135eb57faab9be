"""The stream between the launcher and a rank: however it is cut, and whatever bytes it holds."""

from __future__ import annotations

import itertools
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.wire import channel
from launcher.wire.channel import Channel
from launcher.wire.messages import Message, ProtocolError, pack, unpack
from launcher.wire.protocol import FROM_RANK, Alive, Error, Stage, Step

texts = st.text(max_size=50)
some = st.one_of(
    st.just(Alive()), st.builds(Stage, texts), st.builds(Error, texts), st.builds(Step, st.integers(), st.integers())
)


@pytest.mark.slow
@given(st.lists(some, max_size=5))
def test_what_is_sent_arrives_in_order(messages):
    left, right = socket.socketpair()
    one, other = Channel(left, ()), Channel(right, FROM_RANK)
    for message in messages:
        one.send(message)
    one.close()
    received = []
    while not other.closed:
        received += other.receive()
    other.close()
    assert received == messages


def heard(chunks: list[bytes]) -> tuple[list[Message], bool]:
    """What a channel makes of a stream that arrives in these pieces, and whether it broke the protocol."""
    left, right = socket.socketpair()
    peer, messages = Channel(right, FROM_RANK), []
    try:
        for chunk in chunks:
            left.sendall(chunk)
            messages += peer.receive()
        left.close()
        while not peer.closed:
            messages += peer.receive()
    except ProtocolError:
        return messages, True
    finally:
        left.close()
        peer.close()
    return messages, False


@given(st.data(), st.lists(some, min_size=1, max_size=4))
def test_messages_are_the_same_however_the_stream_is_cut(data, messages):
    stream = b"".join(pack(message) + b"\n" for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    chunks = [stream[start:end] for start, end in itertools.pairwise([0, *cuts, len(stream)]) if end > start]
    assert heard(chunks) == (messages, False)


def lines_until_broken(stream: bytes) -> tuple[list[Message], bool]:
    """The protocol as it is meant, without a channel: a message a line; what has no newline is no line."""
    found: list[Message] = []
    for line in stream.split(b"\n")[:-1]:
        try:
            found.append(unpack(line, FROM_RANK))
        except ProtocolError:
            return found, True
    return found, False


pieces = st.one_of(st.binary(max_size=40), some.map(pack), st.sampled_from([b"\n", b"{}", b"[" * 5000, b'{"kind":']))


@given(st.lists(pieces, max_size=12).map(b"".join))
def test_no_bytes_do_more_than_break_the_protocol(stream):
    messages, broken = heard([stream] if stream else [])
    meant, breaks = lines_until_broken(stream)
    assert broken == breaks
    assert messages == ([] if broken else meant)  # a read that holds a broken line gives nothing


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 50))
def test_a_line_is_too_long_by_its_length_alone(whole, rest, chunk):
    """Complete or not, in one piece or many; the channel is never asked to hold more than a line and a read."""
    line = b'{"kind":"alive"}'.ljust(whole) + b"\n" if whole else b""
    stream = line + b" " * rest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channel, "MAX_LINE", 100)
        _, broken = heard([stream[start : start + chunk] for start in range(0, len(stream), chunk)])
    assert broken == (max(len(line) - 1, rest) > 100)


def test_lines_are_limited(monkeypatch):
    monkeypatch.setattr(channel, "MAX_LINE", 100)
    left, right = socket.socketpair()
    with left, right:
        with pytest.raises(ProtocolError, match="100 are allowed"):
            Channel(left, ()).send(Stage("a" * 100))
        left.sendall(b"a" * 200)
        with pytest.raises(ProtocolError, match="more than 100"):
            Channel(right, FROM_RANK).receive()
