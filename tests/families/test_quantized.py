"""Quantised transformers of each class: two ranks make what one process makes of the same weights."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

# ruff: noqa: E402  (the helpers are found by path)
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "attention_backends" / "helpers")]

import proof_cases
from exact import alone, difference, model_of
from inputs import Size
from miniatures import TINY
from ranks import Ranks

import attention_backends
from launcher.quantizing import NF4, PACKAGES, UNFIT, WAYS

pytestmark = pytest.mark.slow

SIZE = Size(2, 4, 5, 7)
NAMES = [name for name, tiny in TINY.items() if tiny.kind not in UNFIT]
SAMPLE = NAMES if "FAMILY_SAMPLES" in os.environ else NAMES[:1]


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    pool = Ranks(2)
    yield pool
    pool.stop()


def quantized(group: dist.ProcessGroup, name: str, plan: dict[str, Any] | None, how: str) -> tuple[float, float]:
    """How far two ranks are from one process with the same weights, and that from one with whole weights."""
    from launcher.worker.quantizing import configuration, pack

    model_of.cache_clear()
    alone.cache_clear()
    whole, model = alone(name, SIZE), model_of(name)
    if how == NF4:
        pack(model)
    else:
        from torchao.quantization import quantize_

        quantize_(model, configuration(how).quant_type)
    alone.cache_clear()
    expected = alone(name, SIZE)
    attention_backends.enable(model, process_group=group, cp_plan=plan, ring_degree=2, unified_anything=True)
    try:
        return difference(name, SIZE), ((whole - expected).abs().max() / whole.abs().max()).item()
    finally:
        attention_backends.disable(model)
        model_of.cache_clear()
        alone.cache_clear()


@pytest.mark.parametrize("how", WAYS[1:])
@pytest.mark.parametrize("name", SAMPLE)
def test_ranks_make_what_one_makes_of_quantised_weights(name, how, request):
    pytest.importorskip(
        PACKAGES[how], reason="its package is not installed: pip install '.[quantization,bitsandbytes]'"
    )
    ranks = request.getfixturevalue("ranks")
    for error, changed in ranks.run(quantized, 2, name=name, plan=proof_cases.plans()[name], how=how):
        assert error <= proof_cases.LIMIT
        assert 1e-5 < changed < 0.5
