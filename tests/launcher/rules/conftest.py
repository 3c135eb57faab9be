"""What rules say of a line."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from launcher.config.compose import Composer, to_config
from launcher.estimates.ways import resolve
from launcher.machines import Machine
from launcher.request.request import Request
from launcher.rules import problems

Asked = Callable[[str, Machine], Request]


@pytest.fixture(scope="session")
def asked(composer: Composer) -> Asked:
    """The request of a line on a machine; each line is composed once for all tests here."""
    return functools.cache(lambda line, machine: resolve(to_config(composer.compose(line.split())), machine))


@pytest.fixture
def refuse(asked: Asked) -> Callable[[str, str, Machine], None]:
    """Require that a line is refused on a machine, and in these words."""

    def check(line: str, said: str, machine: Machine) -> None:
        broken = problems(asked(line, machine))
        found = [str(problem) for problem in broken]
        assert any(said in text for text in found), found
        assert [problem for problem in broken if not problem.instead] == []

    return check
