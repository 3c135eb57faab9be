"""A checkpoint on the disk: whole, or what it lacks is named before a rank starts."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from shared import LAPTOP

from launcher.config.model_schema import ModelConfig
from launcher.families.checkpoint import Checkpoint, inspect
from launcher.families.weights import BUNDLED
from launcher.rules import problems
from launcher.wire.jobs import Load
from launcher.worker.fetching import fetch
from launcher.worker.load import load_pipeline

FACTS = {"name": "flux_tiny", "pipeline": "FluxPipeline", "heads": 6, "head_dim": 24, "layers": 4}
FACTS["tokenizer"] = "tokenizer_2"


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(BUNDLED, tmp_path / "model")


def look(folder: Path, **more: object) -> Checkpoint:
    return inspect(ModelConfig(**{**FACTS, "path": str(folder), **more}))


def said(folder: Path, **more: object) -> list[str]:
    return [str(problem) for problem in look(folder, **more).problems]


def test_the_bundled_model_is_whole_and_small(folder):
    found = look("bundled")
    assert (found.problems, found.whole, found.variant, found.revision) == ((), True, None, None)
    assert set(found.parameters) == {"text_encoder", "text_encoder_2", "transformer", "vae"}
    assert said(folder) == []
    assert sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file()) < 8_000_000


def test_a_folder_whose_name_is_no_text_is_named_as_that(folder):
    """Its tokenizers could not be opened, as if they were broken; a link to it can be."""
    odd = folder.rename(folder.with_name("\udcff"))
    folder.symlink_to(odd)
    (problem,) = said(odd)
    assert "a name that is not UTF-8 text" in problem
    assert said(folder) == []


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("tokenizer/tokenizer.json", "tokenizer has no vocabulary"),
        ("tokenizer_2/tokenizer.json", "tokenizer_2 has no vocabulary"),
        ("tokenizer/tokenizer_config.json", "tokenizer/tokenizer_config.json is missing"),
        ("scheduler/scheduler_config.json", "scheduler/scheduler_config.json is missing"),
        ("vae/config.json", "vae/config.json is missing"),
        ("vae/diffusion_pytorch_model.safetensors", "'vae' has no .safetensors file"),
    ],
)
def test_every_file_that_a_part_needs_is_missed(folder, name, what):
    (folder / name).unlink()
    (problem,) = said(folder)
    assert what in problem


@pytest.mark.parametrize("name", ["scheduler/scheduler_config.json", "vae/config.json", "text_encoder/config.json"])
def test_an_empty_configuration_is_refused_for_defaults_would_draw_another_picture(folder, name):
    (folder / name).write_text("{}")
    (problem,) = said(folder)
    assert f"{name} is no configuration: it has no " in problem


@pytest.mark.parametrize("name", ["tokenizer/special_tokens_map.json", "tokenizer_2/spiece.model"])
def test_a_pointer_in_place_of_a_file_is_refused(folder, name):
    (folder / "tokenizer_2" / "tokenizer.json").unlink()
    (folder / "tokenizer_2" / "spiece.model").write_text("version https://git-lfs.github.com/spec/v1")
    if name.startswith("tokenizer/"):
        shutil.copy(BUNDLED / "tokenizer_2" / "tokenizer.json", folder / "tokenizer_2")
        (folder / name).write_text("version https://git-lfs.github.com/spec/v1")
    (problem,) = said(folder)
    assert f"{name} is not " in problem


@pytest.mark.parametrize(
    ("part", "entry", "what"),
    [
        ("vae", [None, None], "has no 'vae'"),
        ("text_encoder_2", [None, None], "has no 'text_encoder_2'"),
        ("tokenizer", [None, None], "has no 'tokenizer'"),
        ("feature_extractor", [], "must name a library and a class for 'feature_extractor', not []"),
        ("scheduler", ["diffusers", "NewerScheduler"], "'scheduler' is a NewerScheduler, which diffusers "),
    ],
)
def test_parts_that_the_pipeline_needs_and_this_diffusers_has(folder, part, entry, what):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {part: entry}))
    (problem,) = said(folder)
    assert what in problem


def test_a_link_to_nothing_is_missing(folder):
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    weights.symlink_to("a-blob-that-was-removed")
    (problem,) = said(folder)
    assert "vae/diffusion_pytorch_model.safetensors is missing" in problem


@pytest.mark.slow
def test_a_run_without_a_vocabulary_does_not_start(launch, folder):
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer_2" / "tokenizer.json").unlink()
    ended = launch(f"model.path={folder}", "steps=1", "height=64", "width=64")
    assert ended.code == 1
    assert "tokenizer_2 has no vocabulary" in ended.err
    assert ended.runs == []


def test_a_truncated_file_is_named(folder):
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    (problem,) = said(folder)
    assert "vae/diffusion_pytorch_model.safetensors is " in problem
    assert "truncated" in problem


def test_a_pickle_in_place_of_safetensors_is_refused(folder):
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").rename(folder / "transformer" / "model.bin")
    assert "model.bin, a pickle, which can run code and is not read" in said(folder)[0]


def test_missing_parts_and_other_pipelines(folder, tmp_path):
    shutil.rmtree(folder / "text_encoder_2")
    assert "its part 'text_encoder_2' is missing" in said(folder)[0]
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "WanPipeline"}))
    assert "holds a WanPipeline, and model=flux_tiny is a FluxPipeline" in said(folder)[0]
    (folder / "model_index.json").write_text("[]")
    assert "not a diffusers pipeline: model_index.json is not a JSON object" in said(folder)[0]
    assert "no such folder, and not the name" in said(tmp_path / "none")[0]


def test_the_pipeline_around_a_folder_or_behind_it_is_what_to_type(folder, tmp_path):
    assert f"type model.path={folder}" in said(folder / "vae")[0]
    (tmp_path / "models--owner--name" / "snapshots").mkdir(parents=True)
    assert "type model.path=owner/name" in said(tmp_path / "models--owner--name")[0]


def test_a_second_transformer_is_refused(folder):
    index = json.loads((folder / "model_index.json").read_text())
    shutil.copytree(folder / "transformer", folder / "transformer_2")
    (folder / "model_index.json").write_text(json.dumps(index | {"transformer_2": index["transformer"]}))
    (problem,) = said(folder)
    assert "holds a second transformer, and model=flux_tiny shares the work of transformer alone" in problem
    assert said(folder, transformers=["transformer", "transformer_2"]) == []
    shutil.rmtree(folder / "transformer_2")
    found = " ".join(said(folder, transformers=["transformer", "unconditional_transformer"]))
    assert "has no 'unconditional_transformer', whose work the ranks of model=flux_tiny share" in found


def test_facts_that_the_files_contradict_are_named(folder):
    (problem,) = said(folder, heads=4)
    assert problem.startswith("model.heads=4: the transformer in model.path has 6")


def test_guidance_on_a_checkpoint_without_its_embedding_is_refused(ask):
    found = problems(ask("model=flux", "model.path=bundled", "guidance=10", "runtime=cpu", machine=LAPTOP))
    assert any("model.guidance_embeds=true: the transformer in model.path has false" in str(each) for each in found)


def renamed(folder: Path, *parts: str, variant: str = "fp16") -> None:
    for part in parts:
        for file in (folder / part).glob("*.safetensors"):
            file.rename(file.with_name(f"{file.stem}.{variant}.safetensors"))


WEIGHTY = ("text_encoder", "text_encoder_2", "transformer", "vae")


def test_the_only_variant_there_is_is_picked_and_that_is_said(folder):
    renamed(folder, *WEIGHTY)
    found = look(folder)
    assert (found.problems, found.variant) == ((), "fp16")
    assert "there are fp16 weights only, which are used (model.variant=fp16)" in found.notes[0]
    assert found.parameters == look("bundled").parameters


def test_a_variant_is_used_where_a_part_has_it_and_else_the_plain_weights_are(folder):
    plain = folder / "vae" / "diffusion_pytorch_model.safetensors"
    shutil.copy(plain, plain.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert look(folder).variant is None
    found = look(folder, variant="fp16")
    assert (found.problems, found.notes, found.variant) == ((), (), "fp16")


def test_a_variant_that_no_part_has_is_refused(folder):
    (problem,) = said(folder, variant="bf16")
    assert problem.startswith("model.variant=bf16: no part of model.path has it; it has plain weights only")
    renamed(folder, *WEIGHTY)
    assert "no part of model.path has it; it has fp16" in said(folder, variant="bf16")[0]
    assert "not the name of a variant" in said(folder, variant="../x")[0]


def test_several_variants_are_to_be_chosen_from(folder):
    for part in WEIGHTY:
        (file,) = (folder / part).glob("*.safetensors")
        shutil.copy(file, file.with_name(f"{file.stem}.bf16.safetensors"))
        file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
    problem = said(folder)[0]
    assert "has no plain weights, but the variants bf16, fp16" in problem
    assert "type model.variant=bf16" in problem
    assert len(said(folder)) == 1  # and no plain file is missed
    assert said(folder, variant="fp16") == []


def test_parts_of_unlike_variants_have_none_in_common(folder):
    renamed(folder, "transformer")
    renamed(folder, "vae", variant="bf16")
    (problem,) = said(folder)
    assert "its parts have no variant in common: 'transformer' has fp16, 'vae' has bf16" in problem


@pytest.mark.slow
@pytest.mark.parametrize("parts", [WEIGHTY, ("transformer", "text_encoder")])
def test_a_variant_is_loaded_part_by_part(folder, parts):
    """What was picked here is what a rank loads: the same weights as from plain names."""
    renamed(folder, *parts)
    found = look(folder)
    assert found.problems == ()
    load = Load("FluxPipeline", found.source, found.revision, "float32", "cpu", "none", 60.0, "auto", found.variant)
    loaded = load_pipeline(load, fetch(load)[0])
    plain = load_pipeline(dataclasses.replace(load, variant=None), str(BUNDLED))
    for name in WEIGHTY:
        weights, expected = (getattr(pipe, name).state_dict() for pipe in (loaded, plain))
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[key], expected[key]) for key in expected)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub's that holds the bundled model under the name owner/name, and no network."""
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "abc"
    shutil.copytree(BUNDLED, snapshot)
    (tmp_path / "models--owner--name" / "refs").mkdir()
    (tmp_path / "models--owner--name" / "refs" / "main").write_text("abc")
    return snapshot


def test_what_is_whole_in_the_cache_is_used_without_network_or_token(hub, monkeypatch):
    from huggingface_hub import constants

    found = look("owner/name", gated=True, licence="x")
    assert (found.source, found.revision, found.whole, found.problems) == (str(hub), None, True, ())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert look("owner/name", gated=True, licence="x") == found


def test_a_cache_with_a_hole_is_fetched_into_or_told(hub, monkeypatch):
    from huggingface_hub import constants

    (hub / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    (problem,) = said("owner/name", licence="x")
    assert "in the cache, 'vae' has no .safetensors file; HF_HUB_OFFLINE is set" in problem
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    found = look("owner/name", licence="x")
    assert (found.source, found.whole, found.problems) == ("owner/name", False, ())
    assert "the repository is gated" in said("owner/name", gated=True, licence="x")[0]


def test_a_missing_shard_of_an_offline_snapshot_is_named(hub):
    whole = hub / "transformer" / "diffusion_pytorch_model.safetensors"
    shard = "diffusion_pytorch_model-00001-of-00002.safetensors"
    index = {"weight_map": {"a": shard, "b": shard.replace("1-of", "2-of")}}
    whole.rename(whole.with_name(shard))
    whole.with_name("diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    found = " ".join(said("owner/name"))
    assert "transformer/diffusion_pytorch_model-00002-of-00002.safetensors is missing, which its index names" in found


def test_a_repository_that_is_not_here_and_a_folder_that_is_not_are_one_question(hub, monkeypatch):
    (problem,) = said("models/flux-local")
    assert problem.startswith(
        "model.path=models/flux-local: no folder here and no weights in the cache; HF_HUB_OFFLINE is set"
    )


def test_a_plan_for_another_machine_needs_no_weights(ask, hub):
    assert problems(ask("model=flux", "machine=h100x8"), plan=True) == []


def test_whole_in_the_cache_means_that_nobody_asks_the_network(ask, hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_session", None)
    assert problems(ask("model.path=owner/name")) == []
