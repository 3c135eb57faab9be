"""A configuration-driven launcher for diffusion pipelines with context parallelism.

    with launcher.Pool("model=flux_tiny", "cp=ring_anything") as pool:
        result = pool.run(prompt="red dots on white", height=1000)
        result.images[0]

    launcher.plan("machine=h100x8", "model=flux", height=1000).legal

Importing this package is cheap: what is used is imported when it is.
"""

import os
import sys

# `python -m launcher` runs this first. Python tells so by "-m" in the place of the program, until it knows where that
# is; the module's name is the last word before the program's own.
if sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)] in ("launcher", "-mlauncher"):
    # The current folder is on the path then, and a typing.py or signal.py there is none of ours. In a checkout it is
    # the folder that this package is in.
    if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
        del sys.path[0]
    import signal

    # Nothing is made yet while modules are imported: a Ctrl-C ends the process, without Python's traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

import importlib
from typing import TYPE_CHECKING, Any

from launcher.version import __version__

if TYPE_CHECKING:
    from launcher.pool import Pool, Result, plan
    from launcher.problems import Interrupted, LauncherError, Problem, Refused, RunFailed

__all__ = ["Interrupted", "LauncherError", "Pool", "Problem", "Refused", "Result", "RunFailed", "__version__", "plan"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        place = "pool" if name in ("Pool", "Result", "plan") else "problems"
        return getattr(importlib.import_module(f"{__name__}.{place}"), name)
    raise AttributeError(f"module 'launcher' has no attribute {name!r}; it has {', '.join(__all__)}")
