"""Whether this process was asked to end after the picture that it works on.

By SIGUSR1, which Slurm sends before a time limit (`--signal=USR1@120`): what is half-drawn would be lost.
"""

from __future__ import annotations

import signal
import threading

from launcher.problems import Interrupted

SIGNAL = signal.SIGUSR1
asked = threading.Event()


def leave_if_asked() -> None:
    """End here, between two pictures.

    Raises:
        Interrupted: it was asked for.
    """
    if asked.is_set():
        raise Interrupted(SIGNAL)
