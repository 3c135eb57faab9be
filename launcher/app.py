"""From a command line to an exit code: 0 done, 1 refused or failed, 128 + n ended by signal n (130 is a Ctrl-C)."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from launcher import __version__, machine, screen
from launcher.compose import Composer, conf_dir, options, to_config
from launcher.help import page
from launcher.problems import Interrupted, LauncherError, Problem, Refused, RunFailed, nearest
from launcher.records.run_dir import RunDir, command_line
from launcher.request import Request, resolve
from launcher.rules import problems

if TYPE_CHECKING:
    from launcher.pool import Pool, PoolKey

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit code. Nothing but words reaches the screen."""
    try:
        with _signals():
            return _main(sys.argv[1:] if argv is None else argv)
    except LauncherError as error:
        screen.complain(error)
        return 1
    except Interrupted as interrupt:
        print(f"launcher: interrupted by {signal.Signals(interrupt.signum).name}", file=sys.stderr)
        return 128 + interrupt.signum
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        print(f"launcher: a defect of this program: {type(error).__name__}: {error}", file=sys.stderr)
        print("          HYDRA_FULL_ERROR=1 before the line shows where; please report it", file=sys.stderr)
        return 1


def _main(argv: list[str]) -> int:
    if argv == ["--version"]:
        print(f"launcher {__version__}")
        return 0
    args = _parse(argv)
    composer = Composer(args.config_dir)
    sweep = bool(args.multirun)
    if args.help:
        print(page(composer, args.overrides))
        return 0
    composer.check_words(args.overrides, sweep or args.cfg is not None)
    if args.cfg or args.info or args.hydra_help or args.shell_completion:
        return _ask_hydra(argv)
    with Session(sweep) as session:
        if not sweep:
            composed = composer.compose(args.overrides)
            if composed.hydra.sweeper.params:
                names = ", ".join(composed.hydra.sweeper.params)
                raise Refused(
                    [Problem("hydra.sweeper.params", f"asks for a sweep over {names}", "type -m for a sweep")]
                )
            try:
                session.check(composed)  # before Hydra makes a run directory
            except Refused as refused:
                refused.works_here = session.works_here(composer, args.overrides)
                raise
        composer.run(args.overrides, session.task, sweep)
        return 1 if session.failed else 0


class Session:
    """The jobs of one command line, and the ranks that stay warm between them."""

    def __init__(self, sweep: bool) -> None:
        self.sweep, self.failed = sweep, 0
        self.machine = machine.here()
        self._pool: Pool | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.close()

    def check(self, composed: DictConfig) -> Request:
        """Resolve a configuration and refuse it with everything that is wrong with it."""
        request = resolve(to_config(composed), self.machine)
        if found := problems(request):
            raise Refused(found)
        return request

    def works_here(self, composer: Composer, words: list[str]) -> str | None:
        """The same line for the bundled model, if that one is legal on this machine."""
        words = ["model=flux_tiny", *(word for word in words if not word.startswith("model"))]
        with contextlib.suppress(Refused):
            self.check(composer.compose(words))
            return command_line(words)
        return None

    def task(self, composed: DictConfig) -> None:
        """Hydra's task function: one job. In a sweep a failed job is told and counted, and the next one runs."""
        from launcher.job import execute  # with what a refused request should not wait for: Pillow, tqdm, psutil

        hydra = HydraConfig.get()
        try:
            request = self.check(composed)
            folder = Path(hydra.runtime.output_dir)
            shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
            print(screen.header(request, shown), flush=True)
            made = execute(request, shown, list(hydra.overrides.task), self.pool)
            print(screen.summary(made), flush=True)
        except LauncherError as error:
            self.failed += 1
            screen.complain(error)
        if self.sweep:
            print(flush=True)

    def pool(self, key: PoolKey, run_dir: RunDir) -> Pool:
        """Ranks for a job: those of the last one if they fit, else new ones, after the old ones have ended."""
        if self._pool is not None and (self._pool.key != key or not self._pool.alive):
            self._pool.close()
            self._pool = None
        if self._pool is None:
            from launcher.pool import Pool

            self._pool = Pool(key, run_dir)
        return self._pool


def _parse(argv: list[str]) -> argparse.Namespace:
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
    if args.config_path or args.config_name or args.experimental_rerun:
        instead = "type --config-dir DIR to add a folder of your own"
        raise Refused([Problem("--config-path, --config-name", "would replace conf/ as a whole", instead)])
    return args


def _ask_hydra(argv: list[str]) -> int:
    """Hydra's own questions about the configuration, answered by Hydra."""
    import hydra

    GlobalHydra.instance().clear()
    sys.argv = ["launcher", *argv]
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(lambda _: None)()
    return 0


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Raise Interrupted in the main thread for each signal that asks the program to end."""

    def interrupt(signum: int, _frame: FrameType | None) -> None:
        for other in SIGNALS:  # one is enough: what follows is the tidying up, which a second Ctrl-C must not cut short
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, interrupt) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
