"""Facts of a pipeline that no model= was named for: from its files and its class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.families import unnamed
from launcher.problems import Refused
from launcher.reading import UnreadableError


def pipeline(folder: Path, kind: str, **parts: Any) -> Path:
    """A folder with the index of a pipeline, and the configuration of each part."""
    index: dict[str, Any] = {"_class_name": kind}
    for name, config in parts.items():
        index[name] = ["diffusers", config.pop("kind")]
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_a_pipeline_of_pictures(tmp_path):
    unet = {
        "kind": "UNet2DConditionModel",
        "sample_size": 64,
        "attention_head_dim": 8,
        "block_out_channels": [320, 640],
    }
    vae = {"kind": "AutoencoderKL", "_class_name": "AutoencoderKL", "block_out_channels": [1, 1, 1, 1]}
    found = unnamed.facts("models/SD-1.5", pipeline(tmp_path, "StableDiffusionPipeline", unet=unet, vae=vae))
    assert (found["name"], found["transformers"], found["task"]) == ("sd_1_5", ["unet"], "text-to-image")
    assert (found["vae_scale"], found["height"], found["steps"], found["guidance"]) == (8, 512, 50, 7.5)
    assert (found["guidance_cfg"], found["frames"], found["counted"]) == (True, None, False)
    assert (found["arguments"]["text_tokens"], found["arguments"]["guidance"]) == (None, "guidance_scale")


def test_a_pipeline_that_says_what_sizes_it_takes(tmp_path):
    """Sana's autoencoder has another list of channels, and its pipeline asks for multiples of 32 pixels."""
    transformer = {"kind": "SanaTransformer2DModel", "patch_size": 1, "num_attention_heads": 70}
    for blocks, scale, patch in (([8] * 6, 32, 1), ([8] * 2, 2, 16)):
        vae = {"kind": "AutoencoderDC", "_class_name": "AutoencoderDC", "decoder_block_out_channels": blocks}
        folder = pipeline(tmp_path / str(scale), "SanaPipeline", transformer=dict(transformer), vae=vae)
        found = unnamed.facts("x", folder)
        assert (found["vae_scale"], found["patch"]) == (scale, patch)


def test_a_pipeline_of_videos(tmp_path):
    transformer = {"kind": "AllegroTransformer3DModel", "num_attention_heads": 24, "attention_head_dim": 96}
    vae = {"kind": "AutoencoderKLAllegro", "temporal_compression_ratio": 4, "spatial_compression_ratio": 8}
    found = unnamed.facts("a/b", pipeline(tmp_path, "AllegroPipeline", transformer=transformer, vae=vae))
    assert (found["task"], found["frames_per_latent"], found["heads"], found["head_dim"]) == (
        "text-to-video",
        4,
        24,
        96,
    )
    assert found["frames"] >= 1
    assert found["arguments"]["frames"] == "num_frames"


@pytest.mark.slow
def test_guidance_that_is_embedded_is_not_classifier_free(tmp_path):
    transformer = {"kind": "FluxTransformer2DModel", "guidance_embeds": True, "num_layers": 1, "num_single_layers": 2}
    found = unnamed.facts("x", pipeline(tmp_path, "FluxControlPipeline", transformer=transformer))
    assert (found["guidance_embeds"], found["guidance_cfg"], found["layers"]) == (True, False, 3)
    assert found["task"] == "image-edit"  # it starts from a control_image


@pytest.mark.parametrize(
    ("kind", "parts", "told"),
    [
        ("MyOwnPipeline", ["transformer"], "not a pipeline of the installed diffusers"),
        ("FluxPipeline", ["vae"], "draws nothing from a prompt by denoising"),
        ("DDPMPipeline", ["unet"], "draws nothing from a prompt by denoising"),
    ],
)
def test_what_can_not_draw_is_refused(tmp_path, kind, parts, told):
    folder = pipeline(tmp_path, kind, **{name: {"kind": "Anything"} for name in parts})
    with pytest.raises(Refused, match=told):
        unnamed.facts("x", folder)


def test_what_is_no_pipeline_is_told(tmp_path):
    with pytest.raises(UnreadableError):
        unnamed.facts("x", tmp_path)


ODD = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(-2, 9), max_size=3)
KEYS = ["sample_size", "num_attention_heads", "dim", "num_layers", "patch_size"]


@given(config=st.dictionaries(st.sampled_from(KEYS), ODD))
def test_any_configuration_gives_facts(tmp_path_factory, config):
    folder = pipeline(tmp_path_factory.mktemp("any"), "SanaPipeline", transformer={"kind": "Any", **config})
    found = unnamed.facts("x", folder)
    assert all(found[key] >= 1 for key in ("heads", "head_dim", "layers", "patch", "height", "width", "steps"))
