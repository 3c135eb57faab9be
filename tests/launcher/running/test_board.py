"""What ranks of several machines ask the launcher to find each other."""

from __future__ import annotations

import pytest

from launcher.running import board
from launcher.running.board import Board
from launcher.wire.messages import ProtocolError
from launcher.wire.protocol import Ask, Told


def test_a_key_is_waited_for_and_then_told_to_all_who_wait():
    kept = Board()
    assert kept.answers(1, Ask(5, "get", ("a",))) == []
    assert kept.answers(2, Ask(6, "get", ("a", "b"))) == []
    assert kept.answers(0, Ask(1, "set", ("a",), "ff")) == [(0, Told(1)), (1, Told(5, "ff"))]
    assert kept.answers(0, Ask(2, "set", ("b",), "00")) == [(0, Told(2)), (2, Told(6, "ff"))]
    assert kept.answers(1, Ask(7, "get", ("a",))) == [(1, Told(7, "ff"))]


def test_keys_are_counted_looked_for_and_removed():
    kept = Board()
    assert kept.answers(0, Ask(0, "add", ("n",), "2")) == [(0, Told(0, b"2".hex()))]
    assert kept.answers(0, Ask(1, "add", ("n",), "-5")) == [(0, Told(1, b"-3".hex()))]
    assert kept.answers(0, Ask(2, "check", ("n", "m"))) == [(0, Told(2, ""))]
    assert kept.answers(0, Ask(3, "delete", ("n",))) == [(0, Told(3, "01"))]
    assert kept.answers(0, Ask(4, "delete", ("n",))) == [(0, Told(4, ""))]


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (Ask(0, "set", ()), "a question without a key"),
        (Ask(0, "eval", ("a",)), "'eval' is no question"),
        (Ask(0, "add", ("a",), "one"), "'a' is not a number"),
        (Ask(0, "set", ("a",), "f" * 101), "more than 100 characters to remember"),
    ],
)
def test_what_is_no_question_breaks_the_protocol(ask, told, monkeypatch):
    monkeypatch.setattr(board, "MOST", 100)
    with pytest.raises(ProtocolError, match=told):
        Board().answers(0, ask)
