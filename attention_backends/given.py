"""What a forward was given, as numbers that ranks can compare."""

from collections.abc import Mapping
from typing import Any

import torch

from attention_backends.header import DTYPES

KINDS = {getattr(torch, name): number for number, name in enumerate((*DTYPES, "int64", "int32", "bool"))}


def shapes(given: Mapping[str, Any]) -> list[int]:
    """A forward's arguments as far as they must be alike: shapes, dtypes, whole numbers, absences, as integers.

    torch.compile traces it.
    """
    told: list[int] = []
    for name in sorted(given):
        x = given[name]
        if isinstance(x, torch.Tensor):
            told += [len(name), KINDS.get(x.dtype, -1), x.ndim, *x.shape]
        elif x is None or isinstance(x, int):
            told += [len(name), -2] if x is None else [len(name), -3, int(x)]
    return told


def total(timestep: Any) -> float:
    """The sum of a timestep on a CPU, else 0: on a GPU to read it is to wait for all that was launched before."""
    on_cpu = isinstance(timestep, torch.Tensor) and timestep.device.type == "cpu"
    return timestep.double().sum().item() if on_cpu else 0.0
