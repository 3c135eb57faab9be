"""Names in a plan are looked up in the source of the class: a wrong one is told before anything is started."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from attention_backends.plan import parse
from launcher.config.compose import Composer, to_config
from launcher.config.model_schema import ModelConfig
from launcher.families.plan_dims import dim_problems
from launcher.families.plan_names import name_problems

COMPOSER = Composer()


def said(model: str, **changes: Any) -> list[str]:
    config: ModelConfig = to_config(COMPOSER.compose([f"model={model}"])).model
    plan = copy.deepcopy(config.cp_plan) or {}
    return [problem.rule for problem in name_problems(config, parse(plan | changes))]


@pytest.mark.slow
def test_the_plans_of_conf_are_right_by_their_sources_and_dimensions():
    found = {}
    for name in COMPOSER.groups["model"]:
        config: ModelConfig = to_config(COMPOSER.compose([f"model={name}"])).model
        plan = parse(config.cp_plan)
        found[name] = [str(each) for look in (name_problems, dim_problems) for each in look(config, plan)]
    assert {name: told for name, told in found.items() if told} == {}


WRONG = [
    (
        "wan_t2v_1_3b",
        {"split": {"block.0": {"hidden_states": {"dim": 1}}}},
        "block.0: WanTransformer3DModel has no module 'block' there; nearest: blocks",
    ),
    (
        "wan_t2v_1_3b",
        {"split": {"blocks.0": {"hidden_state": {"dim": 1}}}, "empty": []},
        "split.blocks.0: WanTransformerBlock.forward has no parameter 'hidden_state'; nearest: hidden_states",
    ),
    (
        "wan_t2v_1_3b",
        {"local": ["blocks.*.attn3"]},
        "blocks.*.attn3: WanTransformerBlock has no module 'attn3' there; nearest: attn2, attn1",
    ),
    ("flux", {"gather": {"proj_outt": {"dim": 1}}}, "FluxTransformer2DModel has no module 'proj_outt' there"),
    (
        "flux",
        {"split": {"": {"hidden_states": {"dim": 1}, "text_ids": {"dim": 0, "like": "hidden_states"}}}, "empty": []},
        "split.the model: FluxTransformer2DModel.forward has no parameter 'text_ids'; nearest: txt_ids",
    ),
]


@pytest.mark.parametrize(("model", "changes", "told"), WRONG)
def test_a_wrong_name_is_told_with_the_nearest(model, changes, told):
    (rule,) = [each for each in said(model, **changes) if told in each]
    assert rule


def test_what_a_source_does_not_tell_is_left_to_the_loading():
    assert said("flux3", gather={"nothing": {"dim": 1, "like": "hidden_states"}}) == []  # no pipeline names its class
    assert said("wan_t2v_1_3b", local=["patch_embedding.weights.deeper"]) == []
