"""A LoRA's file against the model by headers: what no rank could wear is refused before one starts."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from launcher.config.model_schema import ModelConfig
from launcher.families.lora import candidates, file, flaw
from launcher.rules import problems

MODEL = ModelConfig(name="flux_tiny", pipeline="FluxPipeline", path="bundled", heads=6, head_dim=24, layers=4)
TO_K = "transformer_blocks.0.attn.to_k"
WIDTH = 144


def pair(stem: str = TO_K, inputs: int = WIDTH, outputs: int = WIDTH, rank: int = 2) -> dict[str, torch.Tensor]:
    return {f"{stem}.lora_A.weight": torch.ones(rank, inputs), f"{stem}.lora_B.weight": torch.ones(outputs, rank)}


@pytest.fixture
def written(tmp_path):
    def write(state, metadata=None, config=None):
        save_file(state, tmp_path / "x.safetensors", metadata)
        if config is not None:
            (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        return tmp_path / "x.safetensors"

    return write


FITS = [pair(), pair(f"transformer.{TO_K}"), pair(f"diffusion_model.{TO_K}"), pair("names.of_another.program", 7, 8)]


@pytest.mark.parametrize("state", FITS)
def test_what_fits_or_is_not_known_here_is_left_to_the_ranks(written, state):
    assert flaw(written(state), MODEL) is None


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (pair(inputs=3072, outputs=3072), f"{TO_K} has 3072 to 3072 channels instead of 144 to 144"),
        (pair(f"transformer.{TO_K}", outputs=150), "has 144 to 150 channels instead of 144 to 144"),
        (pair(f"base_model.model.{TO_K}", inputs=1) | {f"base_model.model.{TO_K}.alpha": torch.ones(())}, "1 to 144"),
        (pair(f"lora_unet_{TO_K.replace('.', '_')}", inputs=150), "has 150 to 144 channels"),
        (pair() | {f"{TO_K}.lora_B.weight": torch.ones(WIDTH, 3)}, r"has matrices of [2, 144] and [144, 3]"),
        (
            {key: value.to(torch.int8) for key, value in pair().items()},
            f"holds whole numbers (I8) at {TO_K}: quantised",
        ),
        (pair() | {f"{TO_K}.alpha": torch.ones(2)}, f"has an alpha at {TO_K} that is not one number"),
        (pair("transformer_blocks.40.attn.to_k"), "more blocks: transformer_blocks.40.attn.to_k"),
        (pair(f"base_model.model.{TO_K}"), "is a peft adapter, and the adapter_config.json"),
    ],
)
def test_what_no_rank_could_wear_is_told(written, state, told):
    assert told in (flaw(written(state), MODEL) or "")


def test_a_configuration_that_is_another_loras_is_told(written, ask):
    path = written(pair(), config={"r": 16, "lora_alpha": 16})
    (problem,) = problems(ask(f"lora.path={path}"))
    assert "adapter_config.json beside it says rank 16" in problem.rule


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("https://civitai.com/api/download/models/1", "is an address, and LoRAs are read from files"),
        ("owner/some-lora", "hf download owner/some-lora"),
        ("{folder}", "holds 2 .safetensors files; type 'lora.path={folder}/x.safetensors' or 'lora.path={folder}/y"),
        ("owner/some-lora/x.safetensors", "hf download owner/some-lora x.safetensors"),
    ],
)
def test_what_is_no_file_is_told_what_it_is(written, ask, typed, told):
    folder = written(pair()).parent / "with a space"
    folder.mkdir()
    (folder / "x.safetensors").touch()
    (folder / "y.safetensors").touch()
    (problem,) = problems(ask(f"lora.path={typed.format(folder=folder)}"))
    assert told.format(folder=folder) in str(problem)


def test_a_folder_with_one_file_is_that_file_and_so_is_a_repository_in_the_hubs_cache(written, tmp_path, monkeypatch):
    from huggingface_hub import constants

    path = written(pair())
    assert file(str(path.parent)) == path
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--owner--style" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (tmp_path / "hub" / "models--owner--style" / "refs").mkdir()
    (tmp_path / "hub" / "models--owner--style" / "refs" / "main").write_text("abc")
    (folder / "a.safetensors").write_bytes(path.read_bytes())
    assert file("owner/style") == file("owner/style/a.safetensors") == folder / "a.safetensors"
    (folder / "b.safetensors").write_bytes(path.read_bytes())
    assert list(candidates("owner/style")) == ["owner/style/a.safetensors", "owner/style/b.safetensors"]
    with pytest.raises(FileNotFoundError):
        file("owner/style/../x.safetensors")
