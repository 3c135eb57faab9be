"""Exact context-parallel attention for diffusers models, for any (uneven) sequence length.

    import attention_backends
    state = attention_backends.enable(pipe.transformer, ring_degree=2, ring_anything=True)
    ...
    attention_backends.disable(pipe.transformer)

Importing this package is cheap: torch and diffusers are imported on the first use of a name below.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attention_backends.diffusers_seam import disable, enable
    from attention_backends.exchange import Counters, counters, reset_counters
    from attention_backends.layout import Layout
    from attention_backends.state import ContextParallel

__version__ = "0.1.0"

_HOME = {
    "enable": "diffusers_seam",
    "disable": "diffusers_seam",
    "ContextParallel": "state",
    "counters": "exchange",
    "reset_counters": "exchange",
    "Counters": "exchange",
    "Layout": "layout",
}
__all__ = ["ContextParallel", "Counters", "Layout", "counters", "disable", "enable", "reset_counters"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'attention_backends' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"attention_backends.{_HOME[name]}"), name)
