"""Settings that are one of a few words."""

import pytest
from refusals import REFUSALS

from launcher.rules.words import words


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["words"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)


def test_the_word_that_was_meant_is_what_to_type(ask):
    meant = ask("compile=max-autotune", "runtime.weights=fsdp", "runtime.offload=true")
    typed = [problem.instead for problem in words(meant)]
    assert typed == ["type runtime.offload=model", "type runtime.weights=sharded", "type compile=regional"]
    assert [problem.instead for problem in words(ask("compile=False"))] == ["type compile=none"]
