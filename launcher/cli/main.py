"""From a command line to an exit code: 0 done, 1 refused or failed, 128 + n ended by signal n (130 is a Ctrl-C)."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from launcher import leaving
from launcher.cli import subcommands
from launcher.cli.terminal import complain, give_up, prepare, say, show
from launcher.problems import Interrupted, LauncherError
from launcher.version import __version__

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit code. Nothing but words reaches the screen."""
    return told(lambda: _main([_utf8(word) for word in sys.argv[1:]] if argv is None else argv))


def told(work: Callable[[], int]) -> int:
    """Do it and return its exit code; what ends it is told in words."""
    prepare()
    with signals():
        try:
            return _answered(work)
        except Interrupted as interrupt:
            why = f": {interrupt.why}" if interrupt.why else ""
            say(f"launcher: interrupted by {signal.Signals(interrupt.signum).name}{why}", sys.stderr)
            return 128 + interrupt.signum


def _utf8(word: str) -> str:
    """A word that the locale could not decode (ASCII, say) is UTF-8, if it can be."""
    try:
        return word if word.isascii() else os.fsencode(word).decode()
    except UnicodeError:
        return word


def _answered(work: Callable[[], int]) -> int:
    """The exit code; whatever is wrong is told."""
    try:
        return work()
    except LauncherError as error:
        complain(error)
        return 1
    except BrokenPipeError:  # `| head` has seen enough
        give_up(sys.stdout)
        return 128 + signal.SIGPIPE
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        say(f"launcher: internal error ({type(error).__name__}: {error}). This is a bug;", sys.stderr)
        say("          set HYDRA_FULL_ERROR=1 to see where, and please report it", sys.stderr)
        return 1


def _main(argv: list[str]) -> int:
    if argv == ["--version"]:
        show(f"launcher {__version__}")
        return 0
    named = argv[:1] if argv[:1] and argv[0] in subcommands.names() else []
    return subcommands.load(*named or [subcommands.DEFAULT]).main(argv[len(named) :])


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """Raise Interrupted in the main thread for the first signal that asks the program to end.

    SIGUSR1 asks it to end after the current picture.
    """
    asked = False

    def interrupt(signum: int, _frame: FrameType | None) -> None:
        # One is enough: what follows is the tidying up, which a second Ctrl-C must not cut short. Later ones are passed
        # over here and not set to SIG_IGN, which makes Python warn of signals that have come in the meantime.
        nonlocal asked
        if not asked:
            asked = True
            raise Interrupted(signum)

    def swallowed(unraisable: sys.UnraisableHookArgs) -> None:
        # Python drops what is raised in __del__ or in a callback of a weakref, as each import has one.
        nonlocal asked
        if not isinstance(unraisable.exc_value, Interrupted):
            hook(unraisable)
            return
        asked = False  # and from another thread a moment later, for here it would be dropped once more
        again = (threading.main_thread().ident, unraisable.exc_value.signum)
        threading.Timer(0.01, signal.pthread_kill, again).start()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hook, sys.unraisablehook = sys.unraisablehook, swallowed
    heard = [signum for signum in SIGNALS if signal.getsignal(signum) != signal.SIG_IGN]  # nohup ignores SIGHUP for us
    before = {signum: signal.signal(signum, interrupt) for signum in heard}
    leaving.asked.clear()
    before[leaving.SIGNAL] = signal.signal(leaving.SIGNAL, lambda *_: leaving.asked.set())
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for signum, handler in before.items():
            signal.signal(signum, handler)
