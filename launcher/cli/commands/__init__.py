"""The subcommands, one module each: `ABOUT`, a line for the help page, and `main(words)`, which returns an exit code.

A module that is put here is a subcommand, by its name; nothing else has to be told.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, cast

DEFAULT = "run"  # where no subcommand is named


class Command(Protocol):
    """What a module here has."""

    ABOUT: str

    def main(self, words: list[str]) -> int:
        """Do it, and return the exit code."""


def names() -> list[str]:
    """Every subcommand."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Command:
    """A subcommand by its name; only this one is imported."""
    return cast(Command, importlib.import_module(f"{__name__}.{name}"))
