"""compile=: what is refused, and what a plan says of it."""

import pytest
from refusals import REFUSALS
from shared import LAPTOP

from launcher.estimates import memory
from launcher.estimates.notes import notes
from launcher.rules import compiling, problems


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["compiling"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)


@pytest.mark.parametrize(
    "words",
    [
        "compile=full cp=none",
        "compile=regional cp=unified_anything",
        "compile=regional cp=ring_anything runtime.weights=sharded",
        "compile=full model.true_cfg=2 cp.cfg_degree=2",
    ],
)
def test_what_was_tested_is_legal(ask, words):
    assert problems(ask(*words.split()), plan=True) == []


def test_what_it_takes_is_told(ask):
    plain, compiled = (ask("runtime=cpu", *words) for words in ([], ["compile=full"]))
    assert memory.estimate(compiled).total == memory.estimate(plain).total + memory.COMPILER
    assert any("compiles before the first step" in note for note in notes(compiled))


def test_it_needs_a_compiler(asked, monkeypatch):
    monkeypatch.setattr(compiling.shutil, "which", lambda _: None)
    (found,) = problems(asked("compile=full", LAPTOP))
    assert str(found) == "compile=full: needs a C++ compiler, and there is none; install g++, or leave it out"
