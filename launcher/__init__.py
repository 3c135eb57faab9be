"""A configuration-driven launcher for diffusion pipelines with context parallelism.

    with launcher.Pool("model=flux_tiny", "cp=ring_anything") as pool:
        result = pool.run(prompt="red dots on white", height=1000)
        result.images[0]

    launcher.plan("machine=h100x8", "model=flux", height=1000).legal

Importing this package is cheap: what is used is imported when it is.
"""

from launcher.version import __version__

# `python -m launcher` imports this while modules of the current folder still come first: a typing.py there is not ours.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from launcher.pool import Pool, Result, plan
    from launcher.problems import Interrupted, LauncherError, Problem, Refused, RunFailed

__all__ = ["Interrupted", "LauncherError", "Pool", "Problem", "Refused", "Result", "RunFailed", "__version__", "plan"]


def __getattr__(name: str) -> "Any":
    import importlib

    if name in __all__:
        place = "pool" if name in ("Pool", "Result", "plan") else "problems"
        return getattr(importlib.import_module(f"{__name__}.{place}"), name)
    raise AttributeError(f"module 'launcher' has no attribute {name!r}; it has {', '.join(__all__)}")
