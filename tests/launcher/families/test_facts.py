"""Facts against a checkpoint's own configuration files."""

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.config.model_schema import ModelConfig
from launcher.families.facts import contradictions, fact_problems
from launcher.families.weights import BUNDLED

TINY = ModelConfig(name="tiny", heads=6, head_dim=24, layers=4, vae_scale=8, patch=2)
VIDEO = ModelConfig(name="wan", heads=12, head_dim=128, layers=30, vae_scale=8, patch=2, frames_per_latent=4)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"heads": 4}, "model.heads=4: the transformer in model.path has 6, by its own configuration"),
        ({"heads": 4}, "type model.heads=6"),
        ({"head_dim": 8}, "type model.head_dim=24"),
        ({"layers": 5}, "type model.layers=4"),
        ({"vae_scale": 16}, "the vae in model.path has 8"),
        ({"guidance_embeds": True}, "type model.guidance_embeds=false guidance=null"),
    ],
)
def test_what_the_files_contradict_is_named(changed, said):
    assert list(fact_problems(TINY, BUNDLED)) == []
    (problem,) = fact_problems(dataclasses.replace(TINY, **changed), BUNDLED)
    assert said in str(problem)


def test_how_many_layers_have_an_mlp_beside_them_is_read_for_estimates():
    marked = dataclasses.replace(TINY, single_layers=38)
    assert list(contradictions(marked, BUNDLED)) == [("transformer", "single_layers", 3)]
    assert list(fact_problems(marked, BUNDLED)) == []


def test_facts_of_a_video_are_compared_too(tmp_path):
    for part in ("transformer", "vae"):
        (tmp_path / part).mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({"patch_size": [1, 4, 4], "rope_max_seq_len": 9}))
    (tmp_path / "vae" / "config.json").write_text(json.dumps({"scale_factor_spatial": 16, "scale_factor_temporal": 8}))
    found = {problem.value.partition("=")[0] for problem in fact_problems(VIDEO, tmp_path)}
    assert found == {"model.patch", "model.max_positions", "model.vae_scale", "model.frames_per_latent"}


def test_every_family_of_conf_fits_its_published_classes():
    """The names of configuration keys are those that the classes still have."""
    import inspect

    import diffusers

    keys = {
        diffusers.FluxTransformer2DModel: {"num_attention_heads", "num_layers", "num_single_layers", "guidance_embeds"},
        diffusers.QwenImageTransformer2DModel: {"num_attention_heads", "attention_head_dim", "num_layers"},
        diffusers.WanTransformer3DModel: {"patch_size", "rope_max_seq_len", "num_layers"},
        diffusers.AutoencoderKLWan: {"scale_factor_spatial", "scale_factor_temporal"},
        diffusers.AutoencoderKLLTXVideo: {"spatial_compression_ratio", "temporal_compression_ratio"},
        diffusers.AutoencoderKLQwenImage: {"temperal_downsample"},
        diffusers.AutoencoderKL: {"block_out_channels"},
    }  # fmt: skip
    for kind, names in keys.items():
        assert names <= set(inspect.signature(kind.__init__).parameters), kind


values = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=3)
keys = st.sampled_from(
    ["num_attention_heads", "num_layers", "num_single_layers", "guidance_embeds", "patch_size", "block_out_channels",
     "temperal_downsample", "scale_factor_spatial", "_class_name"]
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(transformer=st.dictionaries(keys, values), vae=st.dictionaries(keys, values) | values)
def test_any_configuration_is_compared_or_left_alone(tmp_path, transformer, vae):
    for part, config in (("transformer", transformer), ("vae", vae)):
        (tmp_path / part).mkdir(exist_ok=True)
        (tmp_path / part / "config.json").write_text(json.dumps(config))
    assert all(problem.instead for problem in fact_problems(TINY, tmp_path))
