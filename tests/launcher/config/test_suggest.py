"""What is suggested exists."""

import shlex

import pytest

from launcher.config.compose import Composer
from launcher.config.suggest import ELSEWHERE, NOT_NEEDED, example, kind
from launcher.config.text import fields
from launcher.problems import Refused

COMPOSER = Composer()


def test_names_from_elsewhere_lead_to_settings():
    assert set(ELSEWHERE.values()) <= set(fields())
    assert not {*ELSEWHERE, *NOT_NEEDED} & {name.split(".")[-1] for name in fields()}


@pytest.mark.parametrize("name", [*ELSEWHERE, "gpus", "heigth", "dtyp", "thread", "tflop", "cp.degree", "frame"])
def test_a_suggestion_can_be_typed(name):
    with pytest.raises(Refused) as refused:
        COMPOSER.check_words([f"{name}=2"], sweep=False)
    (problem,) = refused.value.problems
    for words in shlex.split(problem.instead.removeprefix("type ").replace(",", "").replace(" or ", " ")):
        COMPOSER.check_words([words], sweep=False)


@pytest.mark.parametrize("name", fields())
def test_an_example_is_of_its_kind(name):
    COMPOSER.compose([f"{name}={example(name)}"])
    assert kind(name)
