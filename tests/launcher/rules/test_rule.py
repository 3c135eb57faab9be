"""A rule is one function; the order is that of the files."""

from launcher.rules import ROOMS, RULES
from launcher.rules.rule import of


def test_every_function_under_the_decorator_is_a_rule_once():
    assert len(set(RULES)) == len(RULES) > 20
    assert [each.__module__ for each in RULES] == sorted(
        (each.__module__ for each in RULES), key=[room.__name__ for room in ROOMS].index
    )


def test_a_file_has_its_own_rules():
    assert {each.__name__ for each in of("launcher.rules.numbers")} >= {"counts"}
    assert of("launcher.rules.nowhere") == ()
