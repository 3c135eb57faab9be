"""Whether ranks get on with their job, by what they say and when."""

from __future__ import annotations

import time

from launcher.wire.messages import Message
from launcher.wire.protocol import HEARTBEAT, Alive, Done, Step

LONGEST_LOOK = 1.0  # seconds between two looks at the clock that count; they are TICK apart, unless something stops us
LATE = 3 * HEARTBEAT  # seconds of silence after which a rank may be what the others wait for


class AwakeClock:
    """Seconds during which this process could look at its ranks.

    Time in which it was stopped (SIGSTOP, a suspended machine, a screen that blocks) does not count: what the ranks
    said meanwhile waits in their sockets. Monotonic: a clock that is set does not matter either.
    """

    def __init__(self) -> None:
        self._seconds, self._looked = 0.0, time.monotonic()

    def __call__(self) -> float:
        now = time.monotonic()
        self._seconds += min(now - self._looked, LONGEST_LOOK)
        self._looked = now
        return self._seconds


class Watch:
    """When each rank was last heard, and when it last got on with its job.

    Args:
        limit: seconds of either that are a stall. A rank that loads weights may take longer: it has to be alive only.
        processes: how many ranks there are.
        clock: returns seconds.
    """

    def __init__(self, limit: float, processes: int, clock: AwakeClock) -> None:
        self.limit = limit
        self._clock = clock
        now = clock()
        self._alive = dict.fromkeys(range(processes), now)
        self._moved = dict.fromkeys(range(processes), now)
        self._stepping = dict.fromkeys(range(processes), False)

    def heard(self, rank: int, message: Message) -> None:
        """Note that a rank said something; one that is done is silent, however long the others take."""
        if isinstance(message, Done):
            for known in (self._alive, self._moved, self._stepping):
                known.pop(rank, None)
            return
        self._alive[rank] = self._clock()
        if not isinstance(message, Alive):
            self._moved[rank], self._stepping[rank] = self._alive[rank], isinstance(message, Step)

    def stalled(self) -> tuple[int, str] | None:
        """Return the first rank that stalled and how, or None."""
        if not self._alive:
            return None
        now, limit = self._clock(), f"runtime.stall_timeout={self.limit:g} s"
        silent = min(self._alive, key=self._alive.__getitem__)
        if now - self._alive[silent] > self.limit:
            return silent, f"no sign of life within {limit} (stopped, or the machine is overloaded)"
        if now - self._alive[silent] > LATE:
            return None  # the others wait for it: it speaks again, or is the one that stalled
        stuck = [rank for rank in self._moved if self._stepping[rank] and now - self._moved[rank] > self.limit]
        return (stuck[0], f"alive, but no step was finished within {limit}") if stuck else None
