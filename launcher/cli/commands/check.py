"""`python -m launcher check ...`: take the first step on one rank and on all, and tell how close they are."""

from __future__ import annotations

from launcher.cli.elsewhere import served
from launcher.cli.help import page
from launcher.cli.parser import Parser
from launcher.cli.terminal import Terminal, show
from launcher.config.compose import Composer
from launcher.problems import Problem, Refused
from launcher.running.session import Session

ABOUT = "compare the first step of all ranks with one rank's, and draw nothing"


def main(words: list[str]) -> int:
    """Check one configuration: 0 if the ranks together are as one, 1 if not; run.json says how close they are."""
    for word in words:
        if word in ("-m", "--multirun"):
            raise Refused([Problem(word, "check takes one configuration, not a sweep", "type check=true in a sweep")])
    parser = Parser()
    args = parser.read(words)
    composer = Composer(args.config_dir)
    if args.help:
        show(page(composer, args.overrides, "check", parser))
        return 0
    if (code := served(composer, args.overrides)) is not None:
        return code
    with Session(composer, Terminal()) as session:
        session.start([*args.overrides, "check=true"], only_check=True)
        return 0
