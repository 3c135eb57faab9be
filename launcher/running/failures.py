"""Which rank failed first, and of what.

When one rank fails the others lose their connections to it, and say so at about the same time. The root cause is the
failure that is not about communication.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

# How gloo, NCCL and torch.distributed tell that another rank is gone.
COMMUNICATION = re.compile(
    r"closed by peer|connection (reset|refused|was)|broken pipe|ncclRemoteError|NCCL (error|communicator)"
    r"|Timed out waiting|gloo/transport|Socket (Timeout|closed)|DistBackendError|TCPStore",
    re.IGNORECASE,
)
EXIT_CODE = r"exitcode\s*:\s*(-?\d+) \(pid: {pid}\)"  # torchelastic's report
TAIL = 1 << 14  # bytes of a log that are looked at


@dataclass(frozen=True)
class RankFailure:
    """One rank's end: what it said (`told`), or silence."""

    rank: int
    cause: str
    told: bool


def root(failed: list[RankFailure]) -> RankFailure:
    """The failure that caused the others: the first in time that is not about communication."""
    own = [failure for failure in failed if not (failure.told and COMMUNICATION.search(failure.cause))]
    return (own or failed)[0]


def how_it_died(code: int | None, pid: int, start_log: Path, rank_log: Path) -> str:
    """Words for a rank that ended without any.

    Args:
        code: the exit code, negative for a signal, if the rank was our own child; else torchelastic's report is read.
    """
    if code is None:
        match = re.search(EXIT_CODE.format(pid=pid), tail(start_log))
        code = int(match.group(1)) if match else None
    last = last_words(rank_log)
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = " (often the system, short of memory)" if name == "SIGKILL" else ""
        return f"killed by {name}{hint}"
    return (
        f"ended with exit code {code}: {last}" if code is not None else f"its process ended: {last or 'no last words'}"
    )


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
    errors = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception|Interrupt)\b", line)]
    return (errors or lines or [""])[-1][:300]
