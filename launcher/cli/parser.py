"""The options of a subcommand, by argparse; a wrong one is refused in words."""

from __future__ import annotations

import argparse
import re
import sys
from typing import NoReturn

from launcher.cli.terminal import say
from launcher.config import suggest
from launcher.config.compose import Composer
from launcher.problems import Problem, Refused, choices, nearest
from launcher.wording import shorten

HELP = "type --help for the options"


class Parser(argparse.ArgumentParser):
    """Settings (`overrides`) and options between them; each subcommand adds its own to those that all have."""

    def __init__(self) -> None:
        super().__init__(prog="launcher", add_help=False)
        self.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
        self.add_argument("-h", "--help", action="store_true", help="this page")
        self.add_argument("--config-dir", "-cd", metavar="DIR", help="a folder of your own YAML files, like conf/")

    def read(self, words: list[str]) -> argparse.Namespace:
        """Options, and settings as `overrides`.

        Raises:
            Refused: an unknown option, or one without its value.
        """
        known = [name for action in self._actions for name in action.option_strings]
        for place, word in enumerate(words):
            name = word.partition("=")[0]
            if name.startswith("-") and not any(option.startswith(name) for option in known):
                near = nearest(name, known, 2)
                unknown = Problem(word, "unknown option", f"type {choices(near)}" if near else HELP)
                raise Refused([suggest.dashed(words[place:], Composer().groups) or unknown])
        args = self.parse_intermixed_args(words)
        self._overridden(args.overrides)
        return args

    @staticmethod
    def _overridden(words: list[str]) -> None:
        """Say which settings have two values: the last one holds, as with Hydra."""
        given: dict[str, str] = {}
        for word in words:
            key, sign, _ = word.partition("=")
            before = given.get(key.lstrip("+"), word)
            if sign and before != word:
                line = f"launcher: note: {shorten(before, 80)} is overridden by {shorten(word, 80)}, which comes later"
                say(line, sys.stderr)
            given[key.lstrip("+")] = word

    def error(self, message: str) -> NoReturn:
        """What argparse can't read."""
        found = re.match(r"argument (\S+): (.*)", message, re.DOTALL)
        option, rule = found.groups() if found else ("options", message)
        raise Refused([Problem(max(option.split("/"), key=len), rule, HELP)])

    def options(self) -> str:
        """One line for each option."""
        lines = []
        for action in self._actions:
            if action.option_strings:
                value = action.metavar or "|".join(action.choices or ())
                takes = f" {value}" if action.nargs != 0 and value else ""
                lines.append(f"  {', '.join(action.option_strings) + takes:<28} {action.help}")
        return "\n".join(lines)
