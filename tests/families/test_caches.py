"""The caches that a model's file names, on a tiny transformer of its class: three ranks make what one process makes."""

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
from exact import model_of
from inputs import Size
from miniatures import TINY, output
from ranks import Ranks

import attention_backends
from launcher.caches import Cache
from launcher.config.compose import Composer, to_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("FAMILY_SAMPLES" not in os.environ, reason="what is tested here changes with diffusers alone"),
]

STEPS = 6
CACHES = {
    "first_block": Cache("first_block", threshold=0.3, steps=STEPS),
    "mag": Cache("mag", threshold=0.5, warmup=1, ratios=(1.0, 1.0), steps=STEPS),
    "taylorseer": Cache("taylorseer", interval=2, warmup=2, order=1, steps=STEPS),
    "faster": Cache("faster", interval=2, steps=STEPS),
    "pab": Cache("pab", interval=2, steps=STEPS),
}
NAMES = ["flux", "flux_schnell", "qwenimage", "wan", "wan_i2v", "wan_ti2v", "ltx", "hunyuan_video", "cogvideox"]
NAMES += ["cogvideox_2b"]


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    pool = Ranks(3)
    yield pool
    pool.stop()


class Pipe:
    """What a cache asks of a pipeline."""

    current_timestep = 500

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer


def steps(name: str, cache: Cache) -> tuple[list[torch.Tensor], tuple[int, ...]]:
    """Forwards whose inputs drift apart, and those of them that were skipped in part."""
    from launcher.worker.caches import cached

    model, given, outputs = model_of(name), TINY[name].given(Size(2, 4, 5, 7)), []
    with cached(Pipe(model), ["transformer"], cache, "float32") as skips:
        for step in range(STEPS):
            now = given | {"hidden_states": given["hidden_states"] * (1 + 0.02 * step)}
            with model.cache_context("cond"), torch.no_grad():
                outputs.append(output(model(**now)))
            skips.step(step)
        return outputs, skips.taken()


def apart(group: dist.ProcessGroup, name: str, plan: dict[str, Any], kind: str) -> dict[str, Any]:
    """What a cache makes on all ranks, against one process with it and one without."""
    whole, _ = steps(name, Cache())
    alone, skipped = steps(name, CACHES[kind])
    attention_backends.enable(model_of(name), process_group=group, cp_plan=plan, ring_degree=3, unified_anything=True)
    try:
        shared, together = steps(name, CACHES[kind])
    finally:
        attention_backends.disable(model_of(name))
    assert all(torch.equal(one, two) for one, two in zip(whole, steps(name, Cache())[0], strict=True))

    def far(these: list[torch.Tensor], those: list[torch.Tensor]) -> float:
        return max(((one - two).abs().max() / two.abs().max()).item() for one, two in zip(these, those, strict=True))

    return {"error": far(shared, alone), "off": far(alone, whole), "alone": skipped, "together": together}


@pytest.mark.parametrize("name", NAMES)
def test_ranks_skip_and_make_what_one_process_does(ranks, name):
    caches = to_config(Composer().compose([f"model={proof_cases.MODEL[name]}"])).model.caches
    assert caches
    for kind in caches:
        for found in ranks.run(apart, 3, name=name, plan=proof_cases.plans()[name], kind=kind):
            assert found["error"] <= proof_cases.LIMIT
            assert found["alone"] == found["together"] != ()
            assert 10 * found["error"] < found["off"] < 0.1
