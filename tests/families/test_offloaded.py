"""Offloaded transformers of each class: ranks make what one process makes with all weights there."""

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

import proof_cases
from exact import alone, difference, model_of
from inputs import Size
from miniatures import TINY
from poisoned import poisoned
from ranks import Ranks

import attention_backends
from launcher.offloading import IN_PIECES, UNFIT
from launcher.worker import offloading

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("FAMILY_SAMPLES" not in os.environ, reason="what is tested here changes with diffusers alone"),
]

SIZE = Size(2, 4, 5, 7)
NAMES = [name for name, tiny in TINY.items() if tiny.kind not in UNFIT]


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    pool = Ranks(2)
    yield pool
    pool.stop()


def offloaded(group: dist.ProcessGroup, name: str, plan: dict[str, Any] | None, how: str) -> float:
    """How far ranks whose weights wait are from one process with all of them."""
    alone(name, SIZE)
    model, cpu = model_of(name), torch.device("cpu")
    try:
        with poisoned(streams=True):
            (offloading.by_blocks if how == "group" else offloading.by_layers)(model, cpu)
            attention_backends.enable(model, process_group=group, cp_plan=plan, ring_degree=2, unified_anything=True)
            return difference(name, SIZE)
    finally:
        model_of.cache_clear()
        alone.cache_clear()


@pytest.mark.parametrize("how", IN_PIECES)
@pytest.mark.parametrize("name", NAMES)
def test_ranks_make_the_same_of_weights_that_wait(ranks, name, how):
    assert max(ranks.run(offloaded, 2, name=name, plan=proof_cases.plans()[name], how=how)) <= proof_cases.LIMIT
