"""`python -m launcher ...`: make pictures; with `-m` a sweep."""

from __future__ import annotations

import argparse
import contextlib
import sys

from launcher import machines
from launcher.cli.elsewhere import served
from launcher.cli.help import page
from launcher.cli.parser import Parser
from launcher.cli.terminal import Terminal, show
from launcher.config.compose import Composer
from launcher.config.paths import conf_dir
from launcher.config.text import as_typed
from launcher.config.unsupported import unsupported
from launcher.problems import Problem, Refused

ABOUT = "make pictures; may be left out"


def main(words: list[str]) -> int:
    """Run one configuration, or with -m a sweep: 0 if all ended in pictures."""
    for option in ("--config-path", "--config-name", "-cp", "-cn"):
        if any(word.partition("=")[0] == option for word in words):
            instead = "type --config-dir DIR to add a folder of your own"
            raise Refused([Problem(option, "would replace conf/ as a whole", instead)])
    parser = _parser()
    args = parser.read(words)
    composer = Composer(args.config_dir)
    if args.help:
        show(page(composer, args.overrides, "", parser))
        return 0
    if "plan" in args.overrides:
        raise Refused([Problem("plan", "a subcommand comes first", "type python -m launcher plan ...")])
    if args.hydra_help or args.shell_completion:  # whose words are no settings
        return _ask_hydra(args, words)
    if args.cfg or args.info:
        composer.check_words(args.overrides, sweep=True)
        found: list[Problem] = []
        with contextlib.suppress(Refused):  # what can't be composed is Hydra's to tell
            found = list(unsupported(composer.compose(args.overrides, args.multirun), args.multirun))
        if found:  # which Hydra might import and call
            raise Refused(found)
        return _ask_hydra(args, words)
    if (code := served(composer, args.overrides, args.multirun)) is not None:
        return code
    machine = machines.here()
    asked = None
    if not args.multirun:
        composer.check_words(args.overrides, sweep=False)
        from launcher.running.checked import checked  # for which a refused word does not wait

        asked = checked(composer, args.overrides, machine)
    from launcher.running.session import Session  # for which no refusal waits

    with Session(composer, Terminal(), machine) as session:
        if args.multirun:
            return 1 if session.sweep(args.overrides).failed else 0
        session.start(args.overrides, asked=asked)
        return 0


def _parser() -> Parser:
    parser = Parser()
    add = parser.add_argument
    add("-m", "--multirun", action="store_true", help="sweep: every combination of the comma-separated values")
    add("-c", "--cfg", choices=("job", "hydra", "all"), help="print the composed configuration and do nothing else")
    add("-p", "--package", metavar="PART", help="with --cfg: one part of it")
    add("--resolve", action="store_true", help="with --cfg: fill in references")
    topics = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
    how = "how Hydra composes the configuration"
    add("-i", "--info", nargs="?", const="all", choices=topics, metavar="TOPIC", help=how)
    add("-sc", "--shell-completion", action="store_true", help="install=SHELL or uninstall=SHELL: tab completion")
    add("--hydra-help", action="store_true", help="Hydra's own options")
    return parser


def _ask_hydra(args: argparse.Namespace, words: list[str]) -> int:
    """Hydra's own questions about the configuration, answered by Hydra."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    typed = dict(zip(args.overrides, as_typed(args.overrides, sweep=args.multirun), strict=True))
    GlobalHydra.instance().clear()
    sys.argv = ["launcher", *(typed.get(word, word) for word in words)]
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(lambda _: None)()
    return 0
