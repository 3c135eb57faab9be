"""What a rank asks the launcher: each question has a number, and its answer comes to the thread that listens."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Sequence

from launcher.wire.protocol import Ask, Told


class Questions:
    """Questions under way.

    Args:
        send: sends one to the launcher.
    """

    def __init__(self, send: Callable[[Ask], None]) -> None:
        self._send, self._numbers, self._lock = send, itertools.count(), threading.Lock()
        self._open: dict[int, queue.SimpleQueue[str]] = {}

    def ask(self, what: str, keys: Sequence[str], value: str = "", timeout: float | None = None) -> bytes:
        """Ask, and wait for the answer.

        Raises:
            TimeoutError: there was none in so many seconds.
        """
        answer: queue.SimpleQueue[str] = queue.SimpleQueue()
        with self._lock:
            number = next(self._numbers)
            self._open[number] = answer
        self._send(Ask(number, what, tuple(keys), value))
        try:
            return bytes.fromhex(answer.get(timeout=timeout))
        except queue.Empty:
            names = ", ".join(keys)
            raise TimeoutError(f"no rank has told {names} within {timeout:g} s (timed out)") from None
        finally:
            with self._lock:
                del self._open[number]

    def told(self, message: Told) -> None:
        """Pass on an answer; one that nobody waits for any more is dropped."""
        with self._lock:
            answer = self._open.get(message.number)
        if answer is not None:
            answer.put(message.value)
