"""Which rank failed first, and of what.

When one rank fails the others lose their connections to it, and say so at about the same time. The root cause is the
failure that is not about communication.
"""

from __future__ import annotations

import dataclasses
import re
import resource
import signal
from dataclasses import dataclass
from pathlib import Path

# How gloo, NCCL and torch.distributed tell that another rank is gone. Their names alone tell nothing: they are in the
# path of every error of theirs.
COMMUNICATION = re.compile(
    r"closed by peer|reset by peer|connection (reset|refused|closed|was)|broken pipe|pair closure|timed out|timeout"
    r"|RankFailedError|rank \d+ failed: "  # attention_backends: what another rank failed of
    r"|ncclRemoteError|unexpected exit of a remote peer|communicator (was )?aborted|socket closed",
    re.IGNORECASE,
)
EXIT_CODES = re.compile(r"exitcode\s*:\s*(-?\d+) \(pid: (\d+)\)")  # torchelastic's report
SHORT = "often by the system, when memory runs out"  # of a process that was killed
TAIL = 1 << 14  # bytes of a log that are looked at


@dataclass(frozen=True)
class RankFailure:
    """One rank's end: what it said (`told`), or silence; its exit code, negative for a signal, if that is known.

    `first`: its process ended while those of all other ranks still ran.
    """

    rank: int
    cause: str
    told: bool
    code: int | None = None
    first: bool = False

    def ended(self, code: int | None) -> RankFailure:
        """The same with its exit code."""
        return dataclasses.replace(self, code=code)

    @property
    def suspicion(self) -> int:
        """0 for what is a cause by itself, more for what follows from another rank's end."""
        if self.told:
            return 2 if COMMUNICATION.search(self.cause) else 0
        if self.code == -signal.SIGTERM and not self.first:
            return 3  # that is how the starting process ends the others
        return 1


def root(failed: list[RankFailure]) -> RankFailure:
    """The failure that caused the others: of the most likely kind, the first in time."""
    return min(failed, key=lambda failure: failure.suspicion)


def exit_codes(start_log: Path) -> dict[int, int]:
    """How the ranks ended by torchelastic's report, by process id."""
    return {int(pid): int(code) for code, pid in EXIT_CODES.findall(tail(start_log))}


def how_it_died(code: int | None, log: Path) -> str:
    """Words for a process that ended without any.

    Args:
        code: its exit code, negative for a signal, if that is known.
        log: its own.
    """
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"killed by {name}{_by_the_system() if name == 'SIGKILL' else ''}"
    last = last_words(log)
    return (
        f"ended with exit code {code}: {last}" if code is not None else f"its process ended: {last or 'no last words'}"
    )


def _by_the_system() -> str:
    """Why the system may have killed a process."""
    limit = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if limit == resource.RLIM_INFINITY:
        return f" ({SHORT})"
    return f" ({SHORT}, or the {limit} s of CPU time that ulimit -t allows)"


def tail(log: Path) -> str:
    """The end of a log; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def last_words(log: Path) -> str:
    """The last line in a log that looks like an error, else its last line."""
    lines = [line.strip() for line in tail(log).splitlines() if line.strip()]
    follows = [*lines[1:], ""][: len(lines)]
    errors = [
        f"{line} {after}" if line.endswith(":") else line  # a message may start on a line of its own
        for line, after in zip(lines, follows, strict=True)
        if re.match(r"(\w+\.)*\w*(Error|Exception|Interrupt)\b", line)
    ]
    return (errors or lines or [""])[-1][:300]
