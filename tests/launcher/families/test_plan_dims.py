"""Dimensions in a plan are looked up in what running a tiny model of the class showed, before anything is started."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from attention_backends.plan import parse
from launcher.config.compose import Composer, to_config
from launcher.config.model_schema import ModelConfig
from launcher.families.plan_dims import dim_problems, general, table

COMPOSER = Composer()


def said(model: str, **changes: Any) -> list[str]:
    config: ModelConfig = to_config(COMPOSER.compose([f"model={model}"])).model
    plan = copy.deepcopy(config.cp_plan) or {}
    return [f"{problem.rule}; {problem.instead}" for problem in dim_problems(config, parse(plan | changes))]


BLOCKS = {"hidden_states": {"dim": 1}}
WRONG = [
    (
        "wan_t2v_1_3b",
        {"split": {"blocks.0": {"hidden_states": {"dim": 2}}}},
        "split.blocks.0: dim=2: hidden_states has 3 dimensions, and tokens are counted by 1; write dim: 1",
    ),
    (
        "wan_t2v_1_3b",
        {"split": {"blocks.0": {"hidden_states": {"dim": 5}}}},
        "split.blocks.0: dim=5: hidden_states has 3 dimensions, and tokens are counted by 1; write dim: 1",
    ),
    (
        "wan_t2v_1_3b",
        {"split": {"blocks.0": BLOCKS, "rope": {0: {"dim": -1, "like": "hidden_states"}}}},
        "split.rope: dim=-1: output 0 has 4 dimensions, and tokens are counted by 1; write dim: 1",
    ),
    (
        "flux",
        {"gather": {"proj_out": {"dim": 0}}},
        "gather.proj_out: dim=0: output 0 has 3 dimensions, and tokens are counted by 1; write dim: 1",
    ),
    (
        "flux",
        {"split": {"transformer_blocks.0": BLOCKS | {"temb": {"dim": 2, "like": "hidden_states"}}}, "empty": []},
        "dim=2: temb has 2 dimensions, and none of them was seen to count tokens; leave it out",
    ),
]


@pytest.mark.parametrize(("model", "changes", "told"), WRONG)
def test_a_wrong_dimension_is_told_with_the_nearest(model, changes, told):
    assert any(told in each for each in said(model, **changes))


def test_what_was_not_seen_is_left_to_the_run():
    assert said("wan_t2v_1_3b", split={"blocks.0": BLOCKS | {"nothing": {"dim": 7, "like": "hidden_states"}}}) == []
    assert (
        said("wan_t2v_1_3b", split={"blocks.0": BLOCKS | {"temb": {"dim": 1, "ndim": 5, "like": "hidden_states"}}})
        == []
    )


def test_places_in_lists_are_one():
    assert general("blocks.0.attn") == general("blocks.*.attn") == general("blocks.-1.attn")
    assert all(
        set(word) <= set("t1-") for places in table().values() for words in places.values() for word in words.split()
    )
