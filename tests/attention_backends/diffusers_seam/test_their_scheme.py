"""What diffusers' own tests ask of context parallelism, asked of `enable` on gloo: each class that brings a plan.

Two ranks; a degree of 2 around the ring or in Ulysses, with and without `_anything`, one prompt and two, the attention
backend chosen beforehand by `set_attention_backend`, a device mesh's group, and a backward pass. Theirs leaves out a
ring with the native backend, and asks of gradients that they are finite.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[2] / "families"))

from inputs import Size
from miniatures import TINY, output

import attention_backends

pytestmark = pytest.mark.slow

CLASSES = ("flux", "flux2", "qwenimage", "wan", "chronoedit", "ltx", "minimax_h3")
BACKENDS = (None, "native", "_native_math")
DEGREES = (
    {"ulysses_degree": 2},
    {"ring_degree": 2},
    {"ulysses_degree": 2, "ulysses_anything": True},
    {"ring_degree": 2, "ring_anything": True},
)
SIZE = Size(2, 4, 4, 8)  # 32 tokens of the picture, which two ranks share equally, as theirs do


def size_of(name: str, batch: int) -> Size:
    text = 7 if name == "minimax_h3" else 8  # text, picture and 5 of sound are one sequence
    return dataclasses.replace(SIZE, batch=batch, text=text)


def inference(
    group: dist.ProcessGroup, name: str, degrees: dict[str, Any], backend: str | None, batch: int
) -> tuple[float, list[str]]:
    """How far the output is from one process's with the same backend, and what the model's attention is afterwards."""
    from diffusers import ContextParallelConfig

    ContextParallelConfig(**degrees)  # which takes the same words
    model, given = TINY[name].build(), TINY[name].given(size_of(name, batch))
    if backend is not None:
        model.set_attention_backend(backend)
    chosen = [str(getattr(part.processor, "_attention_backend", "")) for part in _attentions(model)]
    mesh = dist.DeviceMesh.from_group(group, "cpu")
    with torch.no_grad():
        expected = output(model(**given))
        attention_backends.enable(model, process_group=mesh.get_group(), **degrees)
        shown = output(model(**given))
        attention_backends.disable(model)
    assert [str(getattr(part.processor, "_attention_backend", "")) for part in _attentions(model)] == chosen
    torch.testing.assert_close(shown, expected, atol=1e-4, rtol=1e-4)
    return (shown - expected).abs().max().item(), chosen


def _attentions(model: torch.nn.Module) -> list[Any]:
    return [part for part in model.modules() if hasattr(part, "processor")]


def backward(group: dist.ProcessGroup, name: str, degrees: dict[str, Any], batch: int) -> float:
    """How far the gradients, summed over ranks, are from one process's, in parts of the largest one."""
    model, given = TINY[name].build().train(), TINY[name].given(size_of(name, batch))

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(**given)[0].square().mean().backward()
        return [each.grad.clone() for each in model.parameters() if each.grad is not None]

    expected = gradients()
    attention_backends.enable(model, process_group=group, **degrees)
    shown = gradients()
    assert len(shown) == len(expected) > 0
    for each in shown:
        assert torch.isfinite(each).all()
        dist.all_reduce(each, group=group)
    largest = max(each.abs().max().item() for each in expected)
    return max((one - two).abs().max().item() for one, two in zip(shown, expected, strict=True)) / largest


def degrees_of(name: str) -> list[dict[str, Any]]:
    """LTX always gives its attention a mask, which ring_anything takes none of."""
    return [each for each in DEGREES if name != "ltx" or "ring_anything" not in each]


def drawn(name: str) -> list[tuple[dict[str, Any], str | None, int]]:
    """Cases of a class: each kind of degrees once, or all with FAMILY_SAMPLES."""
    batches = (1,) if name == "minimax_h3" else (1, 2)
    if "FAMILY_SAMPLES" in os.environ:
        return list(itertools.product(degrees_of(name), BACKENDS, batches))
    chance = random.Random(name)
    return [(degrees, chance.choice(BACKENDS), chance.choice(batches)) for degrees in degrees_of(name)]


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_with_a_plan_of_its_own_is_exact(ranks, name):
    for degrees, backend, batch in drawn(name):
        ranks.run(inference, 2, name=name, degrees=degrees, backend=backend, batch=batch)


@pytest.mark.parametrize("name", CLASSES)
def test_its_gradients_are_one_processs(ranks, name):
    for degrees in degrees_of(name) if "FAMILY_SAMPLES" in os.environ else [random.Random(name).choice(DEGREES[:2])]:
        assert max(ranks.run(backward, 2, name=name, degrees=degrees, batch=1)) < 1e-4
