"""What a rule is: one function under `@rule`. It yields a Problem for each way in which a request breaks it.

Rules stand alone: a rule must not assume that another one passed (a height may be -5 here).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from launcher.problems import Problem
from launcher.request.request import Request

Rule = Callable[[Request], Iterator[Problem]]

_RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    """Try this function on every request, in the order of the files that launcher/rules/__init__.py lists."""
    _RULES.append(function)
    return function


def typed(setting: str, value: Any) -> str:
    """A setting that takes several kinds of values, as it was typed."""
    return f"{setting}={json.dumps(value, separators=(',', ':'), default=str).replace(chr(34), '')}"


def of(*modules: str) -> tuple[Rule, ...]:
    """The rules that stand in these modules."""
    return tuple(each for module in modules for each in _RULES if each.__module__ == module)
