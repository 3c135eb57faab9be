"""FLUX.2 klein's way to keep a reference picture's keys and values: kept in the first step, read in the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux2 import Flux2KVAttnProcessor, Flux2KVParallelSelfAttnProcessor
from inputs import Size
from miniatures import TINY, output

PROCESSORS = {"Flux2Attention": Flux2KVAttnProcessor, "Flux2ParallelSelfAttention": Flux2KVParallelSelfAttnProcessor}


def two_steps(size: Size, reference: int) -> tuple[Any, Callable[[], list[torch.Tensor]]]:
    """A tiny transformer, and what takes two steps with it and gives their outputs.

    Args:
        reference: tokens of the picture that is looked at.
    """
    model, given = TINY["flux2"].build(), TINY["flux2"].given(size)
    for module in model.modules():
        if (kind := PROCESSORS.get(type(module).__name__)) is not None:
            module.set_processor(kind())
    generator = torch.Generator().manual_seed(0)
    extra = torch.randn(1, reference, given["hidden_states"].shape[2], generator=generator)
    first = given | {
        "hidden_states": torch.cat([extra, given["hidden_states"]], dim=1),
        "img_ids": torch.cat([torch.ones(1, reference, 4), given["img_ids"]], dim=1),
        "kv_cache_mode": "extract",
        "num_ref_tokens": reference,
    }

    def taken() -> list[torch.Tensor]:
        with torch.no_grad():
            shown, cache = model(**first)
            return [output(shown), output(model(**given, kv_cache=cache, kv_cache_mode="cached"))]

    return model, taken


def apart(ones: list[torch.Tensor], others: list[torch.Tensor]) -> list[float]:
    """How far each step's output is from what is expected, in parts of that one's largest number."""
    return [((one - two).abs().max() / two.abs().max()).item() for one, two in zip(ones, others, strict=True)]
