"""The entry: `python -m launcher`, and the console script `launcher`."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    import signal
    import warnings

    # What libraries warn of is for programmers: lines with their paths, and with PYTHONWARNINGS=error a failure.
    warnings.simplefilter("ignore")
    gc.set_threshold(500_000)  # imports make half of that, which stays: to search it takes a sixth of a plan

    # Nothing is made yet while the modules are imported: a Ctrl-C ends the process, without Python's traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from launcher.cli.main import SIGNALS
    from launcher.cli.main import main as run

    code = run()
    for signum in SIGNALS:  # all is done: a Ctrl-C while Python ends must not print a traceback
        signal.signal(signum, signal.SIG_IGN)
    gc.freeze()  # else Python searches all objects several times more as it ends: a fifth of a plan
    sys.exit(code)


if __name__ == "__main__":
    # `python -m` looks for modules in the current folder first, and a queue.py or signal.py there is none of ours. In a
    # checkout that folder is where this package is.
    if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
        del sys.path[0]
    main()
