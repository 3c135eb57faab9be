"""The facts in conf/model, against diffusers' and transformers' classes with the published configurations."""

from __future__ import annotations

import functools
import inspect
import re
import tomllib
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
import transformers
from shared import ROOT

from launcher.config.compose import Composer, to_config
from launcher.config.model_schema import ModelConfig
from launcher.families.shapes import misfits
from launcher.records.run_dir import LIBRARIES
from launcher.rules import files

# Where diffusers' default is the published model's configuration, nothing is given.
WAN = {"num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30}
FLUX_VAE = {
    "latent_channels": 16,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
XXL = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu"}
QWEN_TEXT = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}
QWEN_VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584}


def t5() -> Any:
    return transformers.T5EncoderModel(transformers.T5Config(vocab_size=32128, tie_word_embeddings=False, **XXL))


def umt5() -> Any:
    return transformers.UMT5EncoderModel(transformers.UMT5Config(vocab_size=256384, **XXL))


def clip() -> Any:
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(vocab_size=49408, **sizes))


def qwen() -> Any:
    config = transformers.Qwen2_5_VLConfig(text_config=QWEN_TEXT, vision_config=QWEN_VISION, tie_word_embeddings=False)
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


Make = Callable[[], Any]
FAMILIES: dict[str, tuple[Make, list[Make], Make]] = {
    "flux": (
        lambda: diffusers.FluxTransformer2DModel(guidance_embeds=True),
        [t5, clip],
        lambda: diffusers.AutoencoderKL(**FLUX_VAE),
    ),
    "flux_schnell": (diffusers.FluxTransformer2DModel, [t5, clip], lambda: diffusers.AutoencoderKL(**FLUX_VAE)),
    "qwenimage": (diffusers.QwenImageTransformer2DModel, [qwen], diffusers.AutoencoderKLQwenImage),
    "wan_t2v_1_3b": (lambda: diffusers.WanTransformer3DModel(**WAN), [umt5], diffusers.AutoencoderKLWan),
    "ltx_video": (diffusers.LTXVideoTransformer3DModel, [t5], diffusers.AutoencoderKLLTXVideo),
}


COMPOSER = Composer()


@functools.cache
def facts(name: str) -> ModelConfig:
    return to_config(COMPOSER.compose([f"model={name}"])).model


def parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FAMILIES))
def test_facts_are_those_of_the_classes(name):
    make, texts, make_vae = FAMILIES[name]
    model = facts(name)
    with torch.device("meta"):  # shapes without memory
        transformer, vae = make(), make_vae()
        encoders = [text() for text in texts]
    assert sum(map(parameters, encoders)) == model.text_params
    for part in (transformer, vae, *encoders):  # a published configuration contradicts no row of shapes.json
        told = part.config if isinstance(part.config, dict) else part.config.to_dict()
        shapes = {weight: tuple(value.shape) for weight, value in part.state_dict().items()}
        assert list(misfits(type(part).__name__, told, shapes)) == []
    config = transformer.config
    assert parameters(transformer) == model.transformer_params
    assert parameters(vae) == model.vae_params
    assert (config.num_attention_heads, config.attention_head_dim) == (model.heads, model.head_dim)
    assert config.num_layers + config.get("num_single_layers", 0) == model.layers
    assert config.get("guidance_embeds", False) == model.guidance_embeds
    split = {key for entry in model.cp_plan["split"].values() for key in entry}
    assert ("encoder_hidden_states" in split) == (model.text != "whole")
    scale = getattr(vae, "spatial_compression_ratio", 2 ** (len(FLUX_VAE["block_out_channels"]) - 1))
    assert scale == model.vae_scale
    if model.frames_per_latent:
        temporal = getattr(vae, "temporal_compression_ratio", None) or vae.config.scale_factor_temporal
        assert temporal == model.frames_per_latent


@pytest.mark.parametrize("name", [*FAMILIES, "flux_tiny"])
def test_the_pipeline_takes_what_the_facts_say_it_does(name):
    model = facts(name)
    taken = set(inspect.signature(getattr(diffusers, model.pipeline).__call__).parameters)
    assert {"height", "width", "num_inference_steps", "max_sequence_length", "negative_prompt"} <= taken
    assert ("num_frames" in taken) == (model.frames_per_latent is not None)
    assert ("frame_rate" in taken) == (model.arguments.fps is not None)
    assert "guidance_scale" in taken or not (model.guidance_embeds or model.guidance_cfg)
    assert ("true_cfg_scale" in taken) == (not model.guidance_cfg)


def test_wans_positions_end_where_the_fact_says():
    with torch.device("meta"):
        config = diffusers.WanTransformer3DModel(**WAN).config
    assert config.rope_max_seq_len == facts("wan_t2v_1_3b").max_positions


@pytest.mark.slow
def test_what_a_pipeline_uses_if_it_is_installed_is_a_dependency():
    """Else the same request makes another picture on another machine: ftfy cleans Wan's prompts, where it is there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    required, offered = (
        {re.split(r"[<>=\[; ]", line)[0] for line in lines} for lines in (project["dependencies"], extras)
    )
    for name in COMPOSER.groups["model"]:
        source = inspect.getsource(inspect.getmodule(getattr(diffusers, facts(name).pipeline)))
        optional = set(re.findall(r"if is_(\w+)_available\(\)", source)) - {"torch_xla"}
        assert optional <= set(facts(name).packages), name
        assert set(facts(name).packages) <= required | offered, name
        assert set(facts(name).packages) & required <= set(LIBRARIES), name  # and recorded


def test_a_package_that_is_missing_is_named(ask, monkeypatch):
    monkeypatch.setattr(files, "installed", lambda module: module != "ftfy")
    found = [str(problem) for problem in files.weights(ask("model=wan_t2v_1_3b", "runtime=cpu"))]
    assert found == ["model=wan_t2v_1_3b: needs the package ftfy, which is not installed; type pip install ftfy"]
