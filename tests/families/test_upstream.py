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

import proof_cases
import theirs
from exact import error
from inputs import Size
from kept_keys import apart, two_steps
from miniatures import TINY
from ranks import Ranks

import attention_backends

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
    plan = proof_cases.plans()[asked["name"].replace("deep", "amplified")]
    return max(ranks.run(own, ranks.largest, plan=plan, **asked))


@pytest.mark.parametrize(("name", "ring", "ulysses", "size"), WRONG)
def test_it_is_wrong_upstream_and_exact_here(pools, name, ring, ulysses, size):
    asked, ranks = given(name, ring, ulysses, size), pools[ring * ulysses]
    assert here(ranks, asked) <= proof_cases.LIMIT
    assert max(ranks.run(upstream, ranks.largest, **asked)) > proof_cases.LIMIT


@pytest.mark.parametrize(("name", "ring", "ulysses", "size"), CRASH)
def test_it_crashes_upstream_and_is_exact_here(pools, name, ring, ulysses, size):
    asked, ranks = given(name, ring, ulysses, size, anything=size == FEW), pools[ring * ulysses]
    assert here(ranks, asked) <= proof_cases.LIMIT
    with pytest.raises(AssertionError, match="Error"):
        ranks.run(upstream, ranks.largest, **asked)


def kept(group: dist.ProcessGroup, plan: dict[str, Any] | None) -> list[float]:
    """klein's two steps, with `enable` if there is a plan for it, else with diffusers' own, which has its class's."""
    model, steps = two_steps(Size(1, 4, 4, 8), reference=8)
    expected, degrees = steps(), {"ring_degree": dist.get_world_size(group), "ulysses_degree": 1}
    if plan is not None:
        attention_backends.enable(model, process_group=group, cp_plan=plan, mode="ring_anything", **degrees)
        return apart(steps(), expected)
    with theirs.enabled(model, {"mode": "ring_anything", **degrees}):
        return apart(steps(), expected)


def test_kleins_kept_keys_crash_upstream_and_are_exact_here(pools):
    ranks = pools[2]
    for errors in ranks.run(kept, 2, plan=proof_cases.plans()["flux2"]):
        assert max(errors) <= proof_cases.LIMIT
    for told in ranks.errors(kept, 2, plan=None):
        assert told is not None
        assert "Expected output to be a tensor" in told  # its gather meets the cache that the first step gives


def spare(_: dist.ProcessGroup, plan: dict[str, Any] | None) -> float | None:
    """Two ranks of three share a model, and the third has nothing to do."""
    asked = {"mode": "ring", "ring_degree": 2, "ulysses_degree": 1}
    if plan is not None:
        two = dist.new_group([0, 1])
        return error(two, "flux", plan, asked, EVEN) if dist.get_rank() < 2 else None
    return upstream(_, "flux", asked, EVEN)


def refused(group: dist.ProcessGroup) -> None:
    attention_backends.enable(TINY["flux"].build(), process_group=group, mode="ring", ring_degree=2)


def test_a_rank_to_spare_crashes_upstream_and_is_left_alone_here(pools):
    ranks = pools[3]
    first, second, third = ranks.run(spare, 3, plan=proof_cases.plans()["flux"])
    assert max(first, second) <= proof_cases.LIMIT
    assert third is None
    for told in ranks.errors(refused, 3):  # what names no group is asked of all ranks
        assert told is not None
        assert "ring_degree=2 x ulysses_degree=1 = 2, but there are 3 ranks. Try ring_degree=3" in told
    assert "DeviceMesh" in ranks.errors(spare, 3, plan=None)[2]
