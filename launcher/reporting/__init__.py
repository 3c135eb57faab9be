"""Reports of runs: one page that needs nothing else, and the same as Markdown."""

import contextlib
import logging
import os

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells where it keeps its fonts; the screen is not its own

# A name in MPLBACKEND that matplotlib doesn't know is an error of its import; what is drawn here needs no screen.
_backend = os.environ.pop("MPLBACKEND", None)
import matplotlib  # noqa: E402

if _backend is not None:
    os.environ["MPLBACKEND"] = _backend
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = _backend
