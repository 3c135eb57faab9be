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
        beside: lines to copy, shown under it.
    """

    value: str
    rule: str
    instead: str = ""
    beside: str = ""

    def __str__(self) -> str:
        return f"{self.value}: {self.rule}" + (f"; {self.instead}" if self.instead else "")


class LauncherError(Exception):
    """Anything the user is told in words; never a traceback on the screen."""


class Refused(LauncherError):  # noqa: N818 - an outcome, read as one: `raise Refused(problems)`
    """The request breaks rules, all of which are in `problems`; `works_here` is a command line known to be legal."""

    def __init__(self, problems: Iterable[Problem], works_here: str | None = None) -> None:
        self.problems = list(problems)
        self.works_here = works_here
        super().__init__("\n".join(str(problem) for problem in self.problems))


class RunFailed(LauncherError):  # noqa: N818
    """A run that had started ended without its pictures."""


class Interrupted(BaseException):
    """A signal asked the launcher to end; `why` says what sent it, where that is known."""

    def __init__(self, signum: int) -> None:
        self.signum, self.why = signum, ""
        super().__init__(f"signal {signum}")


def nearest(word: str, legal: Iterable[str], count: int = 3) -> list[str]:
    """The legal words most like `word`, best first; empty when nothing is alike."""
    scores = {name: difflib.SequenceMatcher(None, word.lower(), name.lower()).ratio() for name in legal}
    for name in scores:  # 'ring_any' is the start of what was meant, though difflib finds 'ring' closer
        if len(word) > 1 and name.startswith(word):
            scores[name] = max(scores[name], 0.95)
    best = max(scores.values(), default=0)
    alike = [name for name, score in scores.items() if score >= max(0.6, best - 0.1)]
    return sorted(alike, key=lambda name: (-scores[name], name))[:count]


def choices(words: Iterable[object]) -> str:
    """'a', 'a or b', 'a, b or c'."""
    texts = [str(word) for word in words]
    return " or ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
