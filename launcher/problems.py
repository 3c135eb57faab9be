"""What is wrong with a request, as values: every rule returns problems, the edge prints them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One reason why a request cannot run.

    Args:
        value: what was asked, as typed: `cp.ring_degree=0`.
        rule: what it breaks, as the end of a sentence that starts with the value.
        instead: what would work: the nearest legal values, and what to type.
    """

    value: str
    rule: str
    instead: str = ""

    def __str__(self) -> str:
        return f"{self.value}: {self.rule}" + (f"; {self.instead}" if self.instead else "")


class LauncherError(Exception):
    """Anything the user is told in words; never a traceback on the screen."""

    exit_code = 1


class Refused(LauncherError):
    """The request breaks rules, all of which are in `problems`."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class RunFailed(LauncherError):
    """A run that had started ended without its pictures."""


def nearest(word: str, legal: Iterable[str], count: int = 3) -> list[str]:
    """The legal words most like `word`, best first; empty when nothing is alike."""
    legal = sorted(set(legal))
    close = difflib.get_close_matches(word, legal, n=count, cutoff=0.6)
    # 'ring_any' is a prefix of what was meant, though difflib finds 'ring' closer.
    prefixed = [name for name in legal if word and (name.startswith(word) or word.startswith(name))]
    return list(dict.fromkeys(close + prefixed))[:count]


def choices(words: Iterable[str]) -> str:
    """'a', 'a or b', 'a, b or c'."""
    words = [str(word) for word in words]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
