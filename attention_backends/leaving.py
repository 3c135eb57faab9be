"""Waits for messages that leave, in a thread of its own, so that a wait in vain is found.

gloo forgets a message whose connection is closed just as it writes it, and would wait for it until the group's timeout.
Such a connection takes no other message either, which is how it is found.
"""

import queue
import threading
from collections.abc import Callable

from attention_backends.transport import Waits


class Leaving:
    """The thread of one wire."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def wait(self, work: Waits, probe: Callable[[], None]) -> None:
        """Raises RuntimeError if the connection is closed."""
        if self._thread is None:
            self._asked: queue.SimpleQueue[Waits] = queue.SimpleQueue()
            self._answers: queue.SimpleQueue[RuntimeError | None] = queue.SimpleQueue()
            given = self._asked, self._answers
            self._thread = threading.Thread(target=self._run, args=given, name="attention_backends.wire", daemon=True)
            self._thread.start()
        self._asked.put(work)
        look = 0.5  # seconds; a slow rank is looked at less and less often
        while True:
            try:
                error = self._answers.get(timeout=look)
                break
            except queue.Empty:
                look *= 2
                try:
                    probe()
                except RuntimeError:
                    self._thread = None  # that one goes on waiting
                    raise
        if error is not None:
            raise error

    @staticmethod
    def _run(asked: queue.SimpleQueue[Waits], answers: queue.SimpleQueue[RuntimeError | None]) -> None:
        while True:
            work = asked.get()
            try:
                work.wait()
                answers.put(None)
            except RuntimeError as error:
                answers.put(error)
            del work
