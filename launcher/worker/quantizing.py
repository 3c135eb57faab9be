"""Quantised transformers: quantization=, by diffusers' configurations of torchao."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import diffusers
import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def configuration(how: str) -> Any:
    """What diffusers' `from_pretrained` quantises linear layers by.

    Args:
        how: a word of launcher.quantizing.WAYS, and not none.
    """
    logging.getLogger("diffusers.quantizers").setLevel(logging.ERROR)  # it warns of int8 but in bfloat16: all compute
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig

    kinds = {"int8": Int8WeightOnlyConfig, "fp8": Float8WeightOnlyConfig}
    return diffusers.TorchAoConfig(kinds[how]())


def tensors_of(weight: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors that a weight is made of: itself, or where it is quantised its numbers and their scales."""
    if not is_traceable_wrapper_subclass(weight):
        yield weight
        return
    for name in weight.__tensor_flatten__()[0]:
        yield from tensors_of(getattr(weight, name))
