"""diffusers' own context parallelism on the same cases, as far as a CPU lets it run.

Three things that keep it from a CPU at all are supplied, none of which a GPU would do otherwise: a device mesh here; in
attention_backends, an attention with a log-sum-exp and an uneven all_gather for gloo.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch.distributed as dist
from exact import alone, difference, model_of
from inputs import Size

from attention_backends.diffusers_seam import theirs


@contextlib.contextmanager
def enabled(model: Any, arguments: dict[str, Any]) -> Iterator[None]:
    """diffusers' `enable_parallelism` on all ranks, taken back at the end."""
    shape = arguments["ring_degree"], arguments["ulysses_degree"]
    mesh = dist.device_mesh.init_device_mesh("cpu", shape, mesh_dim_names=("ring", "ulysses"))
    with theirs.enabled(model, arguments["mode"], mesh):
        yield


def errors(_: dist.ProcessGroup, name: str, cases: list[tuple[dict[str, Any], Size]]) -> list[float | str]:
    """The error of each case, or what was raised."""
    found: list[float | str] = []
    for arguments, size in cases:
        try:
            alone(name, size)  # before anything is enabled
            with enabled(model_of(name), arguments):
                found.append(difference(name, size))
        except Exception as problem:  # told to the one who asked
            found.append(f"{type(problem).__name__}: {problem}")
            model_of.cache_clear()  # hooks may be left on it
    return found
