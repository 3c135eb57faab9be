"""The options of a command line, which are Hydra's own; what they lack is an answer to a wrong one."""

from __future__ import annotations

import argparse
import sys

from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra

from launcher.config.schema import conf_dir
from launcher.problems import Problem, Refused, RunFailed, nearest


def parse(argv: list[str]) -> argparse.Namespace:
    """Options and settings, which are `overrides`.

    Raises:
        Refused: an option that there is not, or that a run does not take.
        RunFailed: an option that argparse cannot read, of which it has told.
    """
    parser = get_args_parser()
    known = options(parser)
    for word in argv:
        name = word.partition("=")[0]
        if name.startswith("-") and not any(option.startswith(name) for option in known):
            near = nearest(name, known, 2)
            instead = f"type {' or '.join(near)}" if near else "type --help for the list"
            raise Refused([Problem(word, "is no option of this program", instead)])
    try:
        # intermixed: options may stand between the settings
        args: argparse.Namespace = parser.parse_intermixed_args(argv)
    except SystemExit as error:  # argparse printed what is wrong
        raise RunFailed("type --help for the options") from error
    if "plan" in args.overrides:
        raise Refused([Problem("plan", "comes first", "type python -m launcher plan ...")])
    if args.config_path or args.config_name or args.experimental_rerun:
        instead = "type --config-dir DIR to add a folder of your own"
        raise Refused([Problem("--config-path, --config-name", "would replace conf/ as a whole", instead)])
    return args


def options(parser: argparse.ArgumentParser) -> list[str]:
    """The parser's long and short options."""
    return [name for action in parser._actions for name in action.option_strings]


def ask_hydra(argv: list[str]) -> int:
    """Hydra's own questions about the configuration, answered by Hydra."""
    import hydra

    GlobalHydra.instance().clear()
    sys.argv = ["launcher", *argv]
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(lambda _: None)()
    return 0
