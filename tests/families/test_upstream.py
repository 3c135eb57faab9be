"""What diffusers' own context parallelism breaks and `enable` does not: each case run with both, on gloo.

Theirs fails on every rank, or ends a rank, or is more than 1e-4 off without a word; ours is within it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

# ruff: noqa: E402  (the helpers are found by path)
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "attention_backends" / "helpers")]

import proof
import theirs
from exact import error
from inputs import Size
from miniatures import TINY
from ranks import Ranks

pytestmark = pytest.mark.slow

# Its plan names 40 blocks, so that its amplified history is shown with as many.
DEEP = dataclasses.replace(TINY["helios_amplified"], config={**TINY["helios_amplified"].config, "num_layers": 40})
TINY["helios_deep"] = DEEP
EVEN = Size(2, 4, 4, 8)
MASKED = Size(2, 4, 4, 8, 3, "partial")
FEW = Size(2, 3, 5, 2)  # of a prompt's tokens
HELIOS = Size(2, 8, 8, 8)
WRONG = [  # without a word
    ("qwenimage", 2, 1, MASKED),  # prompts of different lengths
    ("ltx", 2, 1, MASKED),
    ("helios_deep", 1, 2, HELIOS),
]
CRASH = [
    ("ltx", 1, 2, EVEN),
    ("ltx2", 1, 2, EVEN),
    ("helios", 1, 2, HELIOS),  # of another depth than 40
    ("flux", 3, 1, FEW),  # fewer tokens than ranks
]


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[int, Ranks]]:
    """By number of ranks: their device mesh is made by all there are."""
    found = {world: Ranks(world) for world in (2, 3)}
    yield found
    for pool in found.values():
        pool.stop()


def own(group: dist.ProcessGroup, name: str, plan: dict[str, Any], arguments: dict[str, Any], size: Size) -> float:
    return error(group, name, plan, arguments, size)


def upstream(group: dist.ProcessGroup, name: str, arguments: dict[str, Any], size: Size) -> float:
    (found,) = theirs.errors(group, name, [(arguments, size)])
    if isinstance(found, str):
        raise RuntimeError(found)  # so that ranks that wait for this one are ended
    return found


def given(name: str, ring: int, ulysses: int, size: Size, anything: bool = False) -> dict[str, Any]:
    mode = ("ring" if ring > 1 else "ulysses") + ("_anything" if anything else "")
    return {"name": name, "arguments": {"mode": mode, "ring_degree": ring, "ulysses_degree": ulysses}, "size": size}


def here(ranks: Ranks, asked: dict[str, Any]) -> float:
    plan = proof.plans()[asked["name"].replace("deep", "amplified")]
    return max(ranks.run(own, ranks.largest, plan=plan, **asked))


@pytest.mark.parametrize(("name", "ring", "ulysses", "size"), WRONG)
def test_it_is_wrong_upstream_and_exact_here(pools, name, ring, ulysses, size):
    asked, ranks = given(name, ring, ulysses, size), pools[ring * ulysses]
    assert here(ranks, asked) <= proof.LIMIT
    assert max(ranks.run(upstream, ranks.largest, **asked)) > proof.LIMIT


@pytest.mark.parametrize(("name", "ring", "ulysses", "size"), CRASH)
def test_it_crashes_upstream_and_is_exact_here(pools, name, ring, ulysses, size):
    asked, ranks = given(name, ring, ulysses, size, anything=size == FEW), pools[ring * ulysses]
    assert here(ranks, asked) <= proof.LIMIT
    with pytest.raises(AssertionError, match="Error"):
        ranks.run(upstream, ranks.largest, **asked)
