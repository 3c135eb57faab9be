"""Switching the sharing of a pipeline's transformers on and off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from diffusers import attention_backend

import attention_backends
from attention_backends.catalog import MODES
from launcher.wire.protocol import Sharing


@contextlib.contextmanager
def shared(transformer: Any, sharing: Sharing) -> Iterator[None]:
    """Have the ranks share the transformer's sequence, by this mode and kernel, while the block runs."""
    mode = MODES[sharing.mode]
    if mode.parallel:
        attention_backends.enable(
            transformer,
            ring_degree=sharing.ring_degree,
            ulysses_degree=sharing.ulysses_degree,
            kernel=sharing.kernel,
            mode=mode.name,
            schedule=sharing.schedule,
            cp_plan=sharing.plan,
        )
        try:
            yield
        finally:
            attention_backends.disable(transformer)
    elif sharing.kernel != "auto":
        with attention_backend(sharing.kernel):  # diffusers' reset leaves the default of all models as it was set
            transformer.set_attention_backend(sharing.kernel)
            try:
                yield
            finally:
                transformer.reset_attention_backend()
    else:
        yield
