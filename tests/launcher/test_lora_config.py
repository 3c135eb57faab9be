"""An adapter's configuration gives the scale that peft gives, and what can't be followed is told."""

from __future__ import annotations

import json
import math

import pytest

from launcher import lora_config, lora_keys

TO_K = "transformer_blocks.0.attn.to_k"
RANK = 4


def scales(path, config=None, stems=(TO_K,), header=None, more=()) -> dict[str, float]:
    if config is not None:
        path.with_name("adapter_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    keys = [f"{stem}.lora_{letter}.weight" for stem in stems for letter in "AB"]
    found, _ = lora_keys.stems([*keys, *more])
    return lora_config.scales(path, header or {}, found, dict.fromkeys(found, RANK))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.safetensors"


@pytest.mark.parametrize("stem", [TO_K, f"base_model.model.{TO_K}", f"transformer.{TO_K}", f"diffusion_model.{TO_K}"])
@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"r": RANK, "lora_alpha": 1}, 0.25),
        ({"r": RANK, "lora_alpha": 8, "use_rslora": True}, 8 / math.sqrt(RANK)),
        ({"r": 2, "lora_alpha": 8, "rank_pattern": {"to_k": RANK}}, 2),
        ({"r": RANK, "lora_alpha": 8, "alpha_pattern": {r"transformer_blocks\.\d+\.attn\.to_k": 2}}, 0.5),
        ({"r": RANK, "lora_alpha": 8, "alpha_pattern": {"o_k": 2}}, 2),
        ({"r": RANK, "lora_alpha": 8, "alpha_pattern": {}, "bias": "none", "init_lora_weights": "gaussian"}, 2),
        ({}, 1),
    ],
)
def test_a_scale_is_pefts(path, stem, config, scale):
    if not config and stem.startswith("base_model"):
        return  # told below
    assert scales(path, config, [stem]) == {stem: scale}


def test_each_part_has_its_own_configuration_in_a_header(path):
    encoder = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    told = {"transformer.r": RANK, "transformer.lora_alpha": 8, "text_encoder.r": RANK, "text_encoder.lora_alpha": 2}
    header = {"lora_adapter_metadata": json.dumps(told)}
    assert scales(path, None, [TO_K, encoder], header) == {TO_K: 2, encoder: 0.5}


def test_what_belongs_to_another_file_is_not_read(path):
    path.with_name("adapter_model.safetensors").touch()
    assert scales(path, {"r": 64, "lora_alpha": 1}) == {TO_K: 1}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"r": 8, "lora_alpha": 1}, f"says rank 8 for {TO_K}, which has rank 4: it is another LoRA's"),
        ({"r": RANK, "peft_type": "LOHA"}, "is of a LOHA, and only plain LoRAs can be used"),
        ({"r": RANK, "init_lora_weights": "pissa_niter_16"}, "changes the model's own weights too"),
        ({"r": RANK, "layer_replication": [[0, 2]]}, "uses layer_replication"),
        ({"r": RANK, "use_dora": True}, f"says that it is a DoRA, and the file has no magnitude of {TO_K}"),
        ({"r": RANK, "lora_alpha": "much"}, "has an odd lora_alpha"),
        ({"r": RANK, "lora_alpha": math.nan}, "has an odd lora_alpha"),
        ({"r": RANK, "alpha_pattern": {"(": 1}}, "has an odd alpha_pattern"),
        ({"r": RANK, "alpha_pattern": {"(t*)*x": 1}}, "has an odd alpha_pattern"),  # which takes years to match
        ({"r": RANK, "alpha_pattern": {"t*" * 30 + "x": 1}}, "has an odd alpha_pattern"),
        ({"r": RANK, "lora_alpha": 10**400}, "has an odd lora_alpha"),
        ({"r": RANK, "alpha_pattern": ["to_k"]}, "has an odd alpha_pattern"),
        ("[1]", "is not a JSON object"),
        ("{", "is not valid JSON"),
    ],
)
def test_what_cannot_be_followed_is_told_with_the_file(path, config, told):
    with pytest.raises(ValueError, match=r"x\.safetensors") as refused:
        scales(path, config)
    assert told in str(refused.value)


def test_pefts_own_form_needs_its_configuration(path):
    with pytest.raises(ValueError, match=r"adapter_config.json with its strength is not beside it"):
        scales(path, None, [f"base_model.model.{TO_K}"])
    assert scales(path, None, [f"base_model.model.{TO_K}"], more=[f"base_model.model.{TO_K}.alpha"]) == {}
