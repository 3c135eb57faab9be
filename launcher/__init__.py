"""A configuration-driven launcher for diffusion pipelines with context parallelism.

    with launcher.Pool("model=flux_tiny", "cp=ring_anything") as pool:
        result = pool.run(prompt="red dots on white", height=1000)
        result.images[0]

Importing this package is cheap: what `Pool` needs is imported when it is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launcher.pool import Pool, Result

__version__ = "0.1.0"
__all__ = ["Pool", "Result"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from launcher import pool

        return getattr(pool, name)
    raise AttributeError(f"module 'launcher' has no attribute {name!r}; it has {', '.join(__all__)}")
