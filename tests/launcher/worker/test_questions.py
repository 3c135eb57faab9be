"""Answers come to who asked, in whatever order; a late one is dropped."""

from __future__ import annotations

import pytest

from launcher.wire.protocol import Told
from launcher.worker.questions import Questions


def test_each_gets_its_own_answer():
    questions = Questions(lambda ask: questions.told(Told(ask.number, ask.value + "00")))
    assert questions.ask("set", ["a"], "ff") == b"\xff\0"
    assert questions.ask("set", ["a"], "") == b"\0"


def test_a_late_answer_is_dropped():
    numbers = []
    questions = Questions(lambda ask: numbers.append(ask.number))
    with pytest.raises(TimeoutError):
        questions.ask("get", ["a"], timeout=0.05)
    questions.told(Told(numbers[0], "ff"))
    questions.told(Told(99, "ff"))
