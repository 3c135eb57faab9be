"""Guidance parallel on tiny transformers: two halves of the ranks compute a branch each, and all see one result."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# ruff: noqa: E402  (the helpers are found by path)
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "attention_backends" / "helpers")]

import proof_cases
from exact import model_of
from halves import BATCH, EVEN, early, halves, size_of
from miniatures import TINY, output
from ranks import Ranks

from launcher.config.compose import Composer, to_config

pytestmark = pytest.mark.slow

CALLS = [
    "flux", "chroma", "qwenimage", "wan", "skyreels_v2", "hunyuan_video", "lumina2", "kandinsky5", "cosmos", "krea2",
]  # fmt: skip
# Mode, ring, Ulysses of each half, by the number of all ranks.
WAYS = {
    2: [("none", 1, 1)],
    4: [("ring", 2, 1), ("ulysses", 1, 2), ("ring_anything", 2, 1), ("ulysses_anything", 1, 2)],
    6: [("unified_anything", 3, 1)],
    8: [("unified", 2, 2), ("unified_anything", 2, 2), ("attention2d", 2, 2)],
}
# Those that `make test` starts; GUIDANCE_WORLDS=2,4,6,8 starts all.
WORLDS = [int(world) for world in os.environ.get("GUIDANCE_WORLDS", "4,6").split(",")]


@pytest.fixture(scope="module", params=WORLDS)
def ranks(request) -> Iterator[tuple[int, Ranks]]:
    pool = Ranks(request.param)
    yield request.param, pool
    pool.stop()


@pytest.mark.parametrize("name", [*CALLS, *BATCH])
def test_two_halves_are_as_one_rank(ranks, name):
    world, pool = ranks
    if world == 8 and name not in ("flux", "ltx"):
        pytest.skip("eight ranks are shown with one of each kind")
    for mode, ring, ulysses in WAYS[world]:
        if mode in EVEN and name in ("zimage", "ltx2"):
            continue  # streams that these modes do not divide
        if mode == "ring_anything" and name in ("krea2", "hunyuan_video"):
            continue  # a mask
        told = pool.run(halves, world, name=name, plan=proof_cases.plans()[name], mode=mode, ring=ring, ulysses=ulysses)
        alone = output(model_of(name)(**TINY[name].given(size_of(mode))))
        for error, computed, sent in told:
            assert error <= proof_cases.LIMIT, (mode, error)
            assert computed == 2, "each rank computes one branch of each step"
            assert sent == alone.numel() * 4


def test_each_half_may_be_a_grid():
    pool = Ranks(8)
    try:
        told = pool.run(halves, 8, name="flux", plan=proof_cases.plans()["flux"], mode="attention2d", ring=2, ulysses=2)
    finally:
        pool.stop()
    for error, computed, _ in told:
        assert error <= proof_cases.LIMIT
        assert computed == 2


def test_a_result_that_is_read_too_early_is_not_finite(ranks):
    world, pool = ranks
    assert pool.run(early, world, name="flux") == [half == 0 for half in (0, 1) for _ in range(world // 2)]


def test_every_family_here_is_one_of_conf():
    """And says how its pipeline makes the two branches."""
    composer = Composer()
    kinds = {"calls": CALLS, "batch": BATCH}
    for kind, names in kinds.items():
        for name in names:
            assert to_config(composer.compose([f"model={proof_cases.MODEL[name]}"])).model.guidance_branches == kind
