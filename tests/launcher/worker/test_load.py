"""Every weight of a pipeline comes from its files."""

import json
import re
import shutil

import pytest
import torch
import twins
from gguf_file import write
from safetensors.torch import load_file, save_file
from shared import a_job

from launcher.families.weights import BUNDLED
from launcher.wire.jobs import PartFile
from launcher.worker.fetching import fetch
from launcher.worker.load import load_pipeline

LOAD = a_job().load


def load(path, **changes):
    import dataclasses

    wanted = dataclasses.replace(LOAD, path=str(path), **changes)
    return load_pipeline(wanted, fetch(wanted)[0])


def test_a_pipeline_is_loaded_in_the_dtype_that_was_asked_for():
    pipe = load(BUNDLED, dtype="bfloat16")
    assert type(pipe).__name__ == "FluxPipeline"
    for part in (pipe.transformer, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
        assert {weight.dtype for weight in part.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder_2"])
def test_weights_that_a_file_lacks_are_named(tmp_path, part):
    """diffusers leaves them without data, transformers fills in random numbers."""
    folder = shutil.copytree(BUNDLED, tmp_path / "model")
    (file,) = (folder / part).glob("*.safetensors")
    tensors = load_file(file)
    name = max(tensors, key=len)
    del tensors[name]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ValueError, match=f"the files of {part} lack its weights {name}"):
        load(folder)


def test_weights_of_another_size_are_named(tmp_path):
    """transformers' own words point to a table in a log."""
    folder = shutil.copytree(BUNDLED, tmp_path / "model")
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": 900}))
    with pytest.raises(
        ValueError, match=r"part 'text_encoder' .* does not fit its configuration: .*embed.* is \(868, 64\) in"
    ):
        load(folder)


@pytest.mark.parametrize(
    ("file", "changes", "told"),
    [
        (
            "transformer/config.json",
            {"in_channels": 16},
            "part 'transformer' of model.path can't be loaded, fetch it again: ",
        ),
        ("vae/config.json", {"latent_channels": 4}, "part 'vae' of "),
        ("vae/config.json", {"norm_num_groups": 7}, "part 'vae' of "),
        ("vae/config.json", {"layers_per_block": 0}, "and config.json has fewer layers"),
        ("transformer/config.json", {"num_single_layers": 2}, "its files hold single_transformer_blocks.2."),
        ("text_encoder/config.json", {"num_hidden_layers": 1}, "its files hold encoder.layers.1."),
        ("scheduler/scheduler_config.json", {"time_shift_type": "odd"}, "part 'scheduler' of "),
        ("text_encoder/config.json", {"hidden_act": "odd"}, "part 'text_encoder' of "),
    ],
)
def test_whatever_fails_names_its_part(tmp_path, file, changes, told):
    folder = shutil.copytree(BUNDLED, tmp_path / "model")
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | changes))
    with pytest.raises(ValueError, match=re.escape(told)) as failed:
        load(folder)
    assert "\n" not in str(failed.value)


def originals(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """LTX's weights under the names of its makers, as a single file for other programs has them."""
    names = {"proj_in": "patchify_proj", "time_embed": "adaln_single", "norm_q": "q_norm", "norm_k": "k_norm"}
    return {
        "model.diffusion_model." + re.sub("|".join(names), lambda found: names[found.group()], key): tensor
        for key, tensor in state.items()
    }


@pytest.fixture(scope="module")
def ltx(tmp_path_factory):
    return twins.build("ltx_video", tmp_path_factory.mktemp("ltx"))


@pytest.mark.parametrize("form", ["makers", "diffusers", "folder"])
def test_another_transformer_takes_the_place_of_the_pipelines_own(ltx, tmp_path, form):
    (file,) = (ltx / "transformer").glob("*.safetensors")
    state = {key: tensor + 1 for key, tensor in load_file(file).items()}
    path = tmp_path / "other.safetensors"
    save_file(originals(state) if form == "makers" else state, path)
    if form == "folder":
        path = shutil.copytree(ltx / "transformer", tmp_path / "other")
        save_file(state, path / file.name, {"format": "pt"})
    pipe = load(ltx, pipeline="LTXPipeline", replaced=(PartFile("transformer", str(path), 1, "model.transformer"),))
    worn = pipe.transformer.state_dict()
    assert set(worn) == set(state)
    assert all(torch.equal(worn[key], tensor) for key, tensor in state.items())


def test_a_part_that_does_not_fit_is_named(ltx, tmp_path):
    (file,) = (ltx / "transformer").glob("*.safetensors")
    state = originals(load_file(file))
    wrong = {
        "it lacks weights that a LTXVideoTransformer3DModel has": {
            key: tensor for key, tensor in state.items() if "scale_shift_table" not in key
        },
        "has no place for": state | {"model.diffusion_model.odd.weight": torch.ones(3)},
        "can't take the place": {"x": torch.ones(3)},
    }
    for told, tensors in wrong.items():
        save_file(tensors, tmp_path / "other.safetensors")
        given = (PartFile("transformer", str(tmp_path / "other.safetensors"), 1, "model.transformer"),)
        with pytest.raises(ValueError, match=told):
            load(ltx, pipeline="LTXPipeline", replaced=given)


# LTX's makers number the blocks of their VAE through; longer names first, for the first that fits is taken.
BLOCKS = {
    "encoder": ["0.downsamplers.0:1", "0.conv_out:2", "0:0", "1.downsamplers.0:4", "1.conv_out:5", "1:3",
                "2.downsamplers.0:7", "2:6", "3:8"],
    "decoder": ["0:1", "1.upsamplers.0:2", "1:3", "2.conv_in:4", "2.upsamplers.0:5", "2:6", "3.conv_in:7",
                "3.upsamplers.0:8", "3:9"],
}  # fmt: skip


def originals_of_vae(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of LTX's VAE under the names of its makers."""

    def name(key: str) -> str:
        half, _, rest = key.partition(".")
        side, middle = ("down", "down_blocks.9") if half == "encoder" else ("up", "up_blocks.0")
        moves = {"mid_block": middle}
        for pair in BLOCKS.get(half, []):
            ours, theirs = pair.split(":")
            moves[f"{side}_blocks.{ours}"] = f"{side}_blocks.{theirs}"
        old = next((old for old in moves if rest.startswith(old + ".")), None)
        rest = rest if old is None else moves[old] + rest.removeprefix(old)
        rest = rest.replace("resnets", "res_blocks").replace("norm3", "norm3.norm")
        found = f"{half}.{rest}".replace("conv_shortcut.conv", "conv_shortcut").rstrip(".")
        kept = {"latents_mean": "mean-of-means", "latents_std": "std-of-means"}
        return f"vae.per_channel_statistics.{kept[key]}" if key in kept else f"vae.{found}"

    return {name(key): tensor for key, tensor in state.items()}


def test_a_single_file_gives_transformer_and_vae(ltx, tmp_path):
    """One as LTX's makers publish it: both parts under the names of other programs."""
    states = {}
    for part in ("transformer", "vae"):
        (file,) = (ltx / part).glob("*.safetensors")
        states[part] = {key: tensor + 1 for key, tensor in load_file(file).items()}
    vae = originals_of_vae(states["vae"])
    path = tmp_path / "whole.safetensors"
    save_file(originals(states["transformer"]) | vae, path)
    given = tuple(PartFile(part, str(path), 1, "model.path") for part in states)
    pipe = load(ltx, pipeline="LTXPipeline", replaced=given)
    for part, state in states.items():
        worn = getattr(pipe, part).state_dict()
        assert set(worn) == set(state)
        assert all(torch.equal(worn[key], tensor) for key, tensor in state.items())


@pytest.mark.slow
def test_a_quantised_transformer_draws_nearly_the_same_and_stays_quantised(tmp_path):
    part = PartFile("transformer", str(write(tmp_path / "x.gguf")), 1, "model.transformer")
    whole, packed = load(BUNDLED, dtype="float32"), load(BUNDLED, dtype="float32", replaced=(part,))
    kinds = {type(module).__name__ for module in packed.transformer.modules()}
    assert "GGUFLinear" in kinds
    drawn = []
    for pipe in (whole, packed):
        pipe.set_progress_bar_config(disable=True)
        seed = torch.Generator().manual_seed(1)
        call = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "pt", "generator": seed}
        drawn.append(pipe("a red circle", **call)[0])
    far = (drawn[0] - drawn[1]).abs()
    assert far.max() > 0
    assert far.mean() < 2 / 255
