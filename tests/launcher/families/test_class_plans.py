"""Plans of classes without a family: a pipeline of such a class needs no model file to be shared by ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from attention_backends.plan import parse
from launcher.config.model_schema import ModelConfig
from launcher.families import class_plans, sources, unnamed
from launcher.families.draft import draft
from launcher.families.plan_dims import dim_problems
from launcher.families.plan_names import name_problems


def folder(path: Path, pipeline: str, kind: str) -> Path:
    config = {"_class_name": kind, "num_attention_heads": 4, "attention_head_dim": 16, "num_layers": 2}
    (path / "transformer").mkdir()
    (path / "transformer" / "config.json").write_text(json.dumps(config))
    index = {"_class_name": pipeline, "transformer": ["diffusers", kind]}
    (path / "model_index.json").write_text(json.dumps(index))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(class_plans.names()))
def test_a_plan_is_in_order_and_its_class_is_there(kind):
    found = class_plans.facts(kind)
    assert sources.transformer(kind) is not None
    assert set(found) <= {"text", "mask", "cross_attention", "cp_plan"}
    assert parse(found["cp_plan"]).streams


PIPELINES = {
    "AuraFlowPipeline": "AuraFlowTransformer2DModel",
    "CogView4Pipeline": "CogView4Transformer2DModel",
    "HiDreamImagePipeline": "HiDreamImageTransformer2DModel",
    "PixArtSigmaPipeline": "PixArtTransformer2DModel",
    "OmniGenPipeline": "OmniGenTransformer2DModel",
    "AnyFlowPipeline": "AnyFlowTransformer3DModel",
    "BriaFibo2Pipeline": "BriaFibo2Transformer2DModel",
    "JoyImageEditPlusPipeline": "JoyImageEditPlusTransformer3DModel",
    "MotifVideoPipeline": "MotifVideoTransformer3DModel",
}


@pytest.mark.parametrize(("pipeline", "kind"), PIPELINES.items())
def test_a_pipeline_of_the_class_gets_it(tmp_path, pipeline, kind):
    found = unnamed.facts("a/b", folder(tmp_path, pipeline, kind))
    assert found["cp_plan"] == class_plans.facts(kind)["cp_plan"]
    assert not found["counted"]
    model = ModelConfig(pipeline=pipeline, cp_plan=found["cp_plan"])
    plan = parse(model.cp_plan)
    assert [*name_problems(model, plan), *dim_problems(model, plan)] == []


def test_a_draft_takes_it(tmp_path):
    drafted = draft(folder(tmp_path, "AuraFlowPipeline", "AuraFlowTransformer2DModel"))
    assert yaml.safe_load(drafted)["cp_plan"] == class_plans.facts("AuraFlowTransformer2DModel")["cp_plan"]


def test_a_class_without_one_has_no_facts():
    assert class_plans.facts("SanaTransformer2DModel") == {}
    assert class_plans.facts("../../escape") == {}
