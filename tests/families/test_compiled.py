"""A family's plan compiles as one graph with dynamic shapes, whichever way its attention is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

# ruff: noqa: E402  (the helpers are found by path)
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "attention_backends" / "helpers")]

import proof
from exact import alone, model_of
from inputs import Size
from miniatures import TINY, output
from ranks import Ranks

import attention_backends

pytestmark = pytest.mark.slow

# Through the dispatcher, by torch's own attention with a text that is split, and with positions that are;
# by Tensor.unflatten.
NAMES = ["chronoedit", "cogvideox", "sd3", "auraflow", "cogview4"]
SAMPLE = NAMES if "FAMILY_SAMPLES" in os.environ else NAMES[:1]  # a quarter of a minute each


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    pool = Ranks(2)
    yield pool
    pool.stop()


def compiled(group: dist.ProcessGroup, name: str, plan: dict[str, Any]) -> list[float]:
    """The error of two sizes, the second of which finds the graph of the first."""
    sizes = (Size(2, 3, 5, 7), Size(2, 4, 4, 9))
    model, expected = model_of(name), [alone(name, size) for size in sizes]
    attention_backends.enable(model, process_group=group, cp_plan=plan, ring_degree=2, unified_anything=True)
    try:
        fast = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
        with torch.no_grad():
            found = [output(fast(**TINY[name].given(size))) for size in sizes]
    finally:
        attention_backends.disable(model)
        torch.compiler.reset()
    return [((one - two).abs().max() / two.abs().max()).item() for one, two in zip(found, expected, strict=True)]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_plan_compiles_as_one_graph(ranks, name):
    for errors in ranks.run(compiled, 2, name=name, plan=proof.plans()[name]):
        assert max(errors) <= proof.LIMIT
