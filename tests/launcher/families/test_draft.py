"""The draft of a model file: read from any pipeline's folder, in the form that a plan has, and refused in words."""

import json
from pathlib import Path

import pytest
import yaml

from attention_backends.plan import parse
from launcher.config.model_schema import ModelConfig
from launcher.families.draft import draft
from launcher.families.facts import contradictions
from launcher.families.weights import BUNDLED
from launcher.problems import Refused

# Transformers of one stream, two streams, cross-attention and refiners, with how their configurations call things.
CLASSES = {
    "SD3Transformer2DModel": ({"num_attention_heads": 24, "attention_head_dim": 64, "num_layers": 24}, {"proj_out"}),
    "HunyuanVideoTransformer3DModel": ({"num_attention_heads": 24, "attention_head_dim": 128}, {"proj_out"}),
    "ZImageTransformer2DModel": ({"n_heads": 30, "dim": 3840, "n_layers": 30}, {"layers.-1"}),
    "CosmosTransformer3DModel": ({"num_attention_heads": 16, "attention_head_dim": 128}, {"proj_out"}),
    "Krea2Transformer2DModel": ({"num_attention_heads": 48, "attention_head_dim": 128}, {"final_layer"}),
}


def pipeline(folder: Path, kind: str, config: dict[str, int]) -> Path:
    (folder / "transformer").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "SomePipeline"}))
    (folder / "transformer" / "config.json").write_text(json.dumps({"_class_name": kind, **config}))
    return folder


@pytest.mark.parametrize("kind", CLASSES)
def test_a_draft_is_a_model_file_with_a_plan(tmp_path, kind):
    config, gathered = CLASSES[kind]
    drafted = yaml.safe_load(draft(pipeline(tmp_path / "My-Model.1", kind, config)))
    assert (drafted["name"], drafted["pipeline"], drafted["counted"]) == ("my_model_1", "SomePipeline", False)
    assert (drafted["heads"], drafted["head_dim"]) == (
        config.get("n_heads") or config["num_attention_heads"],
        64 * 2 // (1 + ("SD3" in kind)),
    )
    plan = parse(drafted["cp_plan"])
    assert set(plan.gather) == gathered
    assert ("transformer_blocks.*.attn2" in plan.local) == kind.startswith("Cosmos")
    assert ("noise_refiner" in plan.local) == kind.startswith("ZImage")


def test_a_drafts_facts_are_those_that_its_files_are_held_to():
    """Layers of two streams and of one, say, are counted together: a draft that fails at once is none."""
    drafted = yaml.safe_load(draft(BUNDLED))
    facts = {key: value for key, value in drafted.items() if key in ("heads", "head_dim", "layers", "patch")}
    assert facts["layers"] > 1
    assert (
        list(contradictions(ModelConfig(**facts, guidance_embeds=drafted.get("guidance_embeds", False)), BUNDLED)) == []
    )


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("MyOwnTransformer", "is not a transformer of the installed diffusers"),
        ("", "not the folder"),
        ("FluxPosEmbed(nn.Module):\n    def __init__", "_class_name is not the name of a class"),
        ("X\nheads: 3", "_class_name is not the name of a class"),
    ],
)
def test_what_cannot_be_drafted_is_told(tmp_path, kind, says):
    folder = pipeline(tmp_path / "a", kind, {}) if kind else tmp_path
    with pytest.raises(Refused, match=says):
        draft(folder)


@pytest.mark.parametrize("odd", [{"num_attention_heads": "/etc/passwd", "dim": 8}, {"dim": []}, {"n_heads": [None]}])
def test_odd_numbers_are_not_drafted(tmp_path, odd):
    assert "\nheads: 0\nhead_dim: 0\n" in draft(pipeline(tmp_path / "a", "FluxTransformer2DModel", odd))
