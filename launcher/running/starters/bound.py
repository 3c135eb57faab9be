"""`accelerate launch` on one of several machines, which ends with who started it.

Until ranks run, torch's agents wait for each other for minutes: nothing else tells them that a launcher was killed.
"""

from __future__ import annotations

import os
import threading
import time

from launcher.wire.channel import STARTER_VARIABLE

TICK = 1.0  # seconds between looks
GRACE = 4.0  # seconds to end by itself, as it does where ranks run: they see the launcher's connection close


def main() -> None:
    """Start the ranks of this machine."""
    threading.Thread(target=_end_with, args=(int(os.environ[STARTER_VARIABLE]),), daemon=True).start()
    from accelerate.commands.launch import main as launch

    launch()


def _end_with(starter: int) -> None:
    while os.getppid() == starter:
        time.sleep(TICK)
    time.sleep(GRACE)
    os._exit(1)


if __name__ == "__main__":
    main()
