"""Settings that are one of a few words."""

import pytest
from refusals import REFUSALS

from launcher.rules.words import words


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["words"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("compile=true", "type compile=regional"),
        ("compile=false", "type compile=none"),
        ("compile=Full", "type compile=full"),
        ("compile=max-autotune", "type compile=regional"),
        ("runtime.weights=fsdp", "type runtime.weights=sharded"),
        ("runtime.weights=shard", "type runtime.weights=sharded"),
        ("runtime.offload=true", "type runtime.offload=model"),
    ],
)
def test_the_word_that_was_meant_is_what_to_type(ask, word, instead):
    assert [problem.instead for problem in words(ask(word))] == [instead]
