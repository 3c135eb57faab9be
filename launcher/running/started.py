"""The process that starts this machine's ranks: started in a session of its own, and ended with all below it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterable
from pathlib import Path

import psutil

from launcher.problems import RunFailed

END_TIMEOUT = 3.0  # seconds that ranks have to leave by themselves


def start(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start it; what it and the ranks say before they have logs of their own goes to this one.

    Raises:
        RunFailed: the system has no room for a process.
    """
    with log.open("ab") as file:
        try:
            return subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is the launcher's to pass on
            )
        except OSError as error:  # of fork
            limits = "see ulimit -u and -v, and the limits of a container"
            raise RunFailed(f"the ranks can't be started: {error.strerror} ({limits})") from error


def gone(process: subprocess.Popen[bytes] | None, timeout: float) -> bool:
    """Wait for it; it ends after its ranks."""
    if process is None:
        return True
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    return True


def end(process: subprocess.Popen[bytes] | None, ranks: Iterable[psutil.Process], now: bool) -> None:
    """End it and its ranks; none of them is left when this returns.

    Args:
        ranks: those that are known, its children or not any more.
        now: it was not told to end, so that it would wait for ever.
    """
    processes = [*ranks, *_descendants(process)]
    for each in processes:
        with contextlib.suppress(psutil.Error):  # it was gone before
            each.kill()
    if process is not None:
        if process.poll() is None and now:
            process.terminate()
        if not gone(process, END_TIMEOUT):
            process.kill()
            process.wait()
    psutil.wait_procs(processes, timeout=END_TIMEOUT)


def _descendants(process: subprocess.Popen[bytes] | None) -> list[psutil.Process]:
    """Ranks that were started and have not connected yet; of one that has ended the number may be another's by now."""
    if process is None or process.poll() is not None:
        return []
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        return []
