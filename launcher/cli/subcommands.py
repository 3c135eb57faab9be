"""The table of subcommands: every module of the room commands/, found by its name and imported when it is used.

So a module that is put there is a subcommand, and nothing else has to be told.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, cast

ROOM = "launcher.cli.commands"
DEFAULT = "run"  # where no subcommand is named


class Command(Protocol):
    """What a module of the room has."""

    ABOUT: str

    def main(self, words: list[str]) -> int:
        """Do it, and return the exit code."""


def names() -> list[str]:
    """Every subcommand."""
    return sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(ROOM).__path__))


def load(name: str) -> Command:
    """A subcommand by its name; only this one is imported."""
    return cast(Command, importlib.import_module(f"{ROOM}.{name}"))
