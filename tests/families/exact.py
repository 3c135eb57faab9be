"""What ranks run to show that a tiny transformer on several of them computes what it computes on one."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent))

from miniatures import TINY, Size, output

import attention_backends


@functools.lru_cache(4)
def model_of(name: str) -> Any:
    return TINY[name].build()


@functools.lru_cache(64)
def alone(name: str, size: Size) -> torch.Tensor:
    with torch.no_grad():
        return output(model_of(name)(**TINY[name].given(size)))


def difference(name: str, size: Size) -> float:
    """The largest difference of two forwards from one process's, in parts of the output's largest number."""
    model, expected = model_of(name), alone(name, size)
    with torch.no_grad():
        shared = [output(model(**TINY[name].given(size))) for _ in range(2)]
    return max(((one - expected).abs().max() / expected.abs().max()).item() for one in shared)


def error(
    group: dist.ProcessGroup, name: str, plan: dict[str, Any] | None, arguments: dict[str, Any], size: Size
) -> float:
    """`difference` with attention_backends enabled."""
    alone(name, size)  # before anything is enabled
    attention_backends.enable(model_of(name), process_group=group, cp_plan=plan, **arguments)
    try:
        return difference(name, size)
    finally:
        attention_backends.disable(model_of(name))


def errors(
    group: dist.ProcessGroup, name: str, plan: dict[str, Any] | None, cases: list[tuple[dict[str, Any], Size]]
) -> list[float | str]:
    """The error of each case, or what was raised."""
    found: list[float | str] = []
    for arguments, size in cases:
        try:
            found.append(error(group, name, plan, arguments, size))
        except Exception as problem:  # told to the one who asked
            found.append(f"{type(problem).__name__}: {problem}")
    return found
