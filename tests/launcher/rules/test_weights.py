"""Sharded weights: what they go with, and what a plan says of them."""

from __future__ import annotations

import pytest
from shared import GPUS

from launcher.cli.plan_page import page
from launcher.config.compose import to_config
from launcher.estimates import memory, weights
from launcher.estimates.notes import notes
from launcher.estimates.plan import plan
from launcher.estimates.ways import resolve
from launcher.rules.weights import sharded, sharded_alone

WORDS = ["model=flux", "cp=ring_anything", "machine=h100x8", "machine.gpus=4"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["cp=none"], "need at least 2 ranks"),
        (["model=qwenimage", "cp.cfg_degree=2", "cp=ring_anything"], "cp.cfg_degree=2: all ranks gather"),
        (["cp=diffusers_ring_anything"], "cp.implementation=diffusers: were not tried together"),
        (["cp=ring_anything", "runtime=gpu_offload"], "runtime.offload=model: were not tried together"),
        (["cp=ring_anything", "runtime.offload=group"], "runtime.offload=group: were not tried together"),
        (["cp=ring_anything", "cache=first_block"], "cache=first_block: were not tried together"),
        (["cp=ring_anything", "lora.path=x.safetensors"], "lora.path=...: were not tried together"),
        (["cp=ring_anything", "cp.transport=host"], "cp.transport=host: were not tried together"),
        (["cp=ring_anything"], None),
        (["cp=ulysses_anything", "check=true"], None),
    ],
)
def test_what_sharded_weights_do_not_go_with_is_named(ask, words, told):
    request = ask("runtime.weights=sharded", *words, machine=GPUS)
    found = [*sharded(request), *sharded_alone(request)]
    assert [told in f"{problem.value}: {problem.rule}" for problem in found] == [True] * (told is not None)


@pytest.mark.parametrize(
    ("gpus", "groups", "typed"),
    [
        (4, 2, "type cp=ring_anything, or leave it out"),
        (4, 4, "type cp=ring_anything data=2, or leave it out"),
        (3, 2, "type cp=ring_anything data=1, or leave it out"),
        (1, 1, "leave it out"),
    ],
)
def test_groups_that_have_one_gpu_each_are_told_how_many_have_two(composer, gpus, groups, typed):
    """cp=ring_anything alone would not help them."""
    words = ["model=flux", "machine=h100x8", f"machine.gpus={gpus}", "cp=none", "runtime.weights=sharded", "images=4"]
    (problem,) = sharded(resolve(to_config(composer.compose(words)), GPUS, groups))
    assert str(problem) == f"runtime.weights=sharded: sharded weights need at least 2 ranks; {typed}"


def test_a_plan_counts_a_share_and_the_blocks_that_are_gathered_and_tells_what_they_cost(ask):
    whole, parts = ask(*WORDS), ask(*WORDS, "runtime.weights=sharded")
    size = weights.held_parts(whole, 1)["transformer"]
    assert weights.held_parts(parts, 1) == {"transformer": size / 4}
    held = [memory.of_ranks(each)[1] for each in (whole, parts)]
    assert held[0].total - held[1].total == pytest.approx(size * (3 / 4 - 3 / 57), rel=1e-3)
    made = plan(parts)
    seconds = next(row.seconds for row in made.modes if row.mode == "ring_anything")
    assert made.replicated_seconds == next(row.seconds for row in plan(whole).modes if row.mode == "ring_anything")
    assert seconds > made.replicated_seconds
    text = " ".join(page(made, parts, "").split())
    assert "each other rank transformer 5.54 GiB; sharded, about" in text
    assert plan(whole).replicated_seconds is None


def test_they_are_named_where_they_make_it_fit(ask):
    told = notes(ask(*WORDS, "machine.memory_gib=24"))
    assert "type runtime.weights=sharded, with which it fits" in told[0]
