"""Parts that are whole and not of one model, and configurations that their own weights contradict: told by headers."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from launcher.config.model_schema import ModelConfig
from launcher.families import fits
from launcher.families.checkpoint import inspect
from launcher.families.parts import Part
from launcher.families.shapes import misfits
from launcher.families.weights import BUNDLED

FACTS = {"name": "flux_tiny", "pipeline": "FluxPipeline", "heads": 6, "head_dim": 24, "layers": 4}
GONE = object()


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(BUNDLED, tmp_path / "model")


def change(file, **changes) -> None:
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not GONE}))


def said(folder) -> list[str]:
    found = inspect(ModelConfig(**FACTS, tokenizer="tokenizer_2", path=str(folder)))
    return [str(problem) for problem in found.problems]


@pytest.mark.parametrize(
    ("file", "changes", "told"),
    [
        ("transformer", {"in_channels": 16}, "in_channels=16, and the weights are of another size: x_embedder.weight"),
        ("transformer", {"joint_attention_dim": 32}, "transformer/config.json says joint_attention_dim=32, and "),
        ("transformer", {"pooled_projection_dim": 32}, "says pooled_projection_dim=32, and the weights"),
        ("transformer", {"num_layers": 2}, "says num_layers=2, and the weights have 1 transformer_blocks"),
        ("transformer", {"num_single_layers": 1}, "the weights have 3 single_transformer_blocks"),
        ("transformer", {"num_attention_heads": 4}, "num_attention_heads=4, and the weights are of another size"),
        ("transformer", {"axes_dims_rope": [16, 4, 8]}, "axes_dims_rope=[16, 4, 8], together 28, and attention_head_"),
        ("transformer", {"_class_name": "X"}, "is a X's, and model_index.json says FluxTransformer2DModel"),
        ("vae", {"latent_channels": 4}, "says latent_channels=4, and the weights"),
        ("vae", {"layers_per_block": 2}, "says layers_per_block=2, and the weights have 1 "),
        ("vae", {"block_out_channels": [8, 16, 32, 64]}, "says block_out_channels[3]=64, and the weights"),
        ("vae", {"shift_factor": GONE}, "vae/config.json has no number as shift_factor"),
        ("vae", {"scaling_factor": None}, "vae/config.json has no number as scaling_factor"),
        ("text_encoder_2", {"d_model": 32}, "text_encoder_2/config.json says d_model=32, and the weights"),
        ("text_encoder_2", {"num_layers": 1}, "text_encoder_2/config.json says num_layers=1, and the weights have 2"),
        ("text_encoder_2", {"d_ff": 100}, "text_encoder_2/config.json says d_ff=100, and the weights"),
        ("text_encoder", {"vocab_size": 500}, "tokenizer/tokenizer.json has 868 words, and its text encoder knows 500"),
        ("text_encoder", {"model_type": "t5"}, "is of the type t5, and model_index.json says CLIPTextModel"),
        ("scheduler", {"shift": GONE}, "scheduler/scheduler_config.json has no shift, which decides the picture"),
        ("scheduler", {"use_dynamic_shifting": GONE}, "has no use_dynamic_shifting, which decides the picture"),
        ("scheduler", {"base_shift": GONE}, "has no base_shift, which decides the picture"),
        ("transformer", {"in_channels": GONE}, "says in_channels=64 by default, and the weights are of another size"),
        ("transformer", {"axes_dims_rope": GONE}, "axes_dims_rope=[16, 56, 56], together 128, and attention_head_dim"),
        ("transformer", {"guidance_embeds": True}, "says guidance_embeds=True, and the weights have no time_text_"),
        ("vae", {"use_post_quant_conv": False}, "says use_post_quant_conv=False, and the weights have a post_quant"),
        ("vae", {"mid_block_add_attention": GONE}, "says mid_block_add_attention=True by default, and the weights"),
        ("vae", {"up_block_types": ["UpDecoderBlock2D"] * 3}, "says up_block_types of a length=3, and the weights"),
        ("text_encoder", {"num_hidden_layers": GONE}, "says num_hidden_layers=12 by default, and the weights have 2"),
        ("text_encoder", {"num_attention_heads": GONE}, "text_encoder/config.json has no num_attention_heads"),
        ("tokenizer", {"model_max_length": GONE}, "tokenizer/tokenizer_config.json has no model_max_length"),
        ("tokenizer", {"model_max_length": 78}, "model_max_length=78, and text_encoder/config.json max_position_"),
        ("tokenizer", {"eos_token": "<end>"}, "says eos_token='<end>', which is no word of its tokenizer.json"),
        (
            "tokenizer",
            {"model_max_length": 0},
            "tokenizer/tokenizer_config.json says model_max_length=0, and no text fits",
        ),
        ("tokenizer", {"model_max_length": "77"}, "says model_max_length='77', which is text in place of a number"),
        ("tokenizer", {"pad_token": None}, "tokenizer_config.json says pad_token=null, and a CLIPTokenizer needs one"),
        (
            "tokenizer_2",
            {"pad_token": "</s>"},
            "says pad_token_id=0, and '</s>' is number 1 of tokenizer_2/tokenizer.js",
        ),
        (
            "text_encoder",
            {"eos_token_id": 0},
            "says eos_token_id=0, and '<|endoftext|>' is number 867 of tokenizer/tok",
        ),
        ("text_encoder", {"hidden_act": GONE}, "text_encoder/config.json has no hidden_act, which decides the picture"),
        ("text_encoder_2", {"relative_attention_max_distance": GONE}, "has no relative_attention_max_distance, which "),
        ("vae", {"scaling_factor": 0}, "vae/config.json says scaling_factor=0, by which latents are divided"),
        ("vae", {"shift_factor": float("nan")}, "vae/config.json has no number as shift_factor"),
        ("vae", {"shift_factor": "0.03"}, "vae/config.json says shift_factor='0.03', which is text in place of a numb"),
        ("transformer", {"axes_dims_rope": [15, 5, 4]}, "says axes_dims_rope=[15, 5, 4], and each must be even"),
        ("transformer", {"axes_dims_rope": [16, 8]}, "[16, 8], and a FluxTransformer2DModel has 3 axes"),
        ("tokenizer_2", {"tokenizer_class": "BertTokenizerFast"}, "is a BertTokenizer's, and model_index.json says T5"),
    ],
)
def test_a_configuration_that_something_contradicts_is_told_before_a_rank_starts(folder, file, changes, told):
    name = {"scheduler": "scheduler_config.json"}.get(file, "config.json")
    name = "tokenizer_config.json" if file.startswith("tokenizer") else name
    change(folder / file / name, **changes)
    found = said(folder)
    assert any(told in problem for problem in found), found
    assert not any(problem.startswith("model.heads") for problem in found)  # advice that would follow the wrong file


@pytest.mark.parametrize(
    ("part", "other", "told"),
    [
        ("tokenizer_2", "tokenizer", "tokenizer_2/tokenizer_config.json is a CLIPTokenizer's"),
        ("tokenizer", "tokenizer_2", "tokenizer/tokenizer_config.json is a T5Tokenizer's"),
        ("text_encoder", "text_encoder_2", "text_encoder/config.json is of the type t5"),
        ("text_encoder_2", "text_encoder", "text_encoder_2/config.json is of the type clip_text_model"),
        ("tokenizer/tokenizer.json", "tokenizer_2/tokenizer.json", "tokenizer/tokenizer.json is a Unigram tokenizer"),
    ],
)
def test_a_part_in_the_place_of_another_is_told(folder, part, other, told):
    if (folder / part).is_dir():
        shutil.rmtree(folder / part)
        shutil.copytree(BUNDLED / other, folder / part)
    else:
        shutil.copy(BUNDLED / other, folder / part)
    assert any(told in problem for problem in said(folder))


@pytest.mark.parametrize(
    ("part", "model", "told"),
    [
        ("tokenizer", {"merges": []}, "makes 0 of 205 words in its vocabulary: its merges are truncated"),
        (
            "tokenizer_2",
            {"vocab": [["<pad>", 0], ["</s>", 0], ["<unk>", 0]]},
            "3 words, and its text encoder knows 478",
        ),
    ],
)
def test_a_vocabulary_that_lost_most_of_itself_is_told(folder, part, model, told):
    file = folder / part / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"] |= model
    file.write_text(json.dumps(content))
    assert any(told in problem for problem in said(folder)), said(folder)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            ["AutoencoderKL", "diffusers"],
            "model_index.json names 'AutoencoderKL' as the library of its part 'vae', whi",
        ),
        (
            ["transformers", "AutoModel"],
            "model_index.json says AutoModel for 'vae', and diffusers takes a class's own",
        ),
    ],
)
def test_an_index_that_no_library_can_follow_is_told(folder, entry, told):
    change(folder / "model_index.json", vae=entry)
    assert any(told in problem for problem in said(folder)), said(folder)


def test_special_tokens_that_a_vocabulary_does_not_have_are_told_from_their_own_file_too(folder):
    (folder / "tokenizer" / "special_tokens_map.json").write_text('{"pad_token": {"content": "[PAD]"}}')
    (problem,) = said(folder)
    assert "tokenizer/special_tokens_map.json says pad_token='[PAD]', which is no word of its tokenizer.json" in problem


def test_a_language_model_states_how_its_positions_turn(tmp_path):
    part = Part("text_encoder", "transformers", "Qwen3Model")
    (tmp_path / "text_encoder").mkdir()
    for more, told in (
        ({}, ["text_encoder/config.json has no rope_theta, which decides the picture"]),
        ({"rope_theta": 1e6}, []),
    ):
        config = {"model_type": "qwen3", "num_key_value_heads": 2} | more
        (tmp_path / "text_encoder" / "config.json").write_text(json.dumps(config))
        assert list(fits.misfits("ZImagePipeline", [part], tmp_path)) == told


@pytest.mark.parametrize("kind", ["EulerDiscreteScheduler", "UniPCMultistepScheduler"])
def test_a_scheduler_of_another_kind_of_model_is_told(folder, kind):
    change(folder / "model_index.json", scheduler=["diffusers", kind])
    assert any(f"a {kind} takes noise off, and a FluxPipeline follows a flow" in problem for problem in said(folder))
    change(folder / "scheduler" / "scheduler_config.json", use_flow_sigmas=True, prediction_type="flow_prediction")
    assert not any("takes noise off" in problem for problem in said(folder))


def test_quantised_weights_are_refused_for_their_scales_would_be_dropped(folder):
    change(folder / "transformer" / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    (problem,) = said(folder)
    assert "'transformer' is quantised (quantization_config: bitsandbytes), and weights are used as they are" in problem
    change(folder / "transformer" / "config.json", quantization_config=None)
    (file,) = (folder / "transformer").glob("*.safetensors")
    save_file(load_file(file) | {"x_embedder.scale_weight": torch.ones(1)}, file)
    (problem,) = said(folder)
    assert "'transformer' is quantised (x_embedder.scale_weight)" in problem


@pytest.mark.parametrize("kind", ["CLIPTokenizer", "BertTokenizer"])
def test_another_class_for_a_tokenizers_files_is_told(folder, kind):
    change(folder / "model_index.json", tokenizer_2=["transformers", kind])
    assert any(f"and model_index.json says {kind}" in problem for problem in said(folder))


def test_parts_of_another_size_are_told_though_each_is_whole():
    configs = {"transformer": {"in_channels": 16}, "vae": {"latent_channels": 16}}
    (told,) = fits._equal("transformer.in_channels = 4 vae.latent_channels", configs)
    assert told.startswith("transformer/config.json says in_channels=16, and vae/config.json latent_channels=16, and 4")
    configs["transformer"]["in_channels"] = 64
    assert list(fits._equal("transformer.in_channels = 4 vae.latent_channels", configs)) == []
    assert list(fits._equal("transformer.text_dim = text_encoder.d_model", configs)) == []


def test_what_a_table_does_not_know_is_left_to_the_ranks():
    assert list(misfits("SomeNewModel", {"in_channels": 3}, {"a.weight": (1,)})) == []
    assert list(misfits("FluxTransformer2DModel", {"in_channels": "x"}, {"x_embedder.weight": (1, 2)})) == []
    assert list(misfits("FluxTransformer2DModel", {"in_channels": 2}, {"x_embedder.weight": (1, 2)})) == []


@pytest.mark.parametrize(
    ("kind", "config", "told"),
    [
        ("AutoencoderKLWan", {"z_dim": 2, "latents_mean": [0.0], "latents_std": [1.0, 1.0]}, "no latents_mean of 2"),
        ("AutoencoderKLQwenImage", {"z_dim": 2, "latents_mean": [0.0, 0.0]}, "no latents_std of 2 numbers"),
        ("AutoencoderKLWan", {"z_dim": 2, "latents_mean": [0.0, 0.0], "latents_std": [1.0, 1.0]}, None),
        ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}, "no flow_shift"),
        ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "flow_shift": 3.0}, "no use_flow_sigmas"),
    ],
)
def test_what_films_are_drawn_by_is_stated(tmp_path, kind, config, told):
    scheduler = kind.endswith("Scheduler")
    part = Part("scheduler" if scheduler else "vae", "diffusers", kind)
    (tmp_path / part.name).mkdir()
    config = config | {"_class_name": kind} | ({"num_train_timesteps": 1000} if scheduler else {})
    (tmp_path / part.name / fits.FILES[part.role]).write_text(json.dumps(config))
    found = list(fits.misfits("WanPipeline", [part], tmp_path))
    assert found == [] if told is None else told in " ".join(found)
