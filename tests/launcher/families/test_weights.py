import json
import shutil

import pytest

from launcher.config.schema import ModelConfig
from launcher.families.weights import BUNDLED, location, revision_problems, weights_problems


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(BUNDLED, tmp_path / "model")


def said(folder) -> list[str]:
    model = ModelConfig(name="flux_tiny", pipeline="FluxPipeline", path=str(folder), heads=6, head_dim=24)
    return [str(problem) for problem in weights_problems(model)]


def test_the_bundled_model_is_whole_and_small(folder):
    bundled = ModelConfig(pipeline="FluxPipeline", path="bundled", heads=6, head_dim=24)
    assert list(weights_problems(bundled)) == []
    assert said(folder) == []
    assert sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file()) < 8_000_000
    assert location(ModelConfig(path="~/x")).startswith("/")


def test_a_truncated_file_is_named(folder):
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert len(said(folder)) == 1
    assert "vae/diffusion_pytorch_model.safetensors is " in said(folder)[0]
    assert "truncated" in said(folder)[0]


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
    assert "is no diffusers pipeline" in said(folder)[0]
    assert "is neither a folder" in said(tmp_path / "none")[0]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    model = ModelConfig(path="owner/name", gated=True, licence="https://hf.co/owner/name")
    return tmp_path, model, constants, monkeypatch


def test_a_gated_repository_needs_a_token_unless_it_is_cached(hub):
    folder, model, _, monkeypatch = hub
    (problem,) = weights_problems(model)
    assert "accepted the licence" in problem.rule
    assert "https://hf.co/owner/name" in problem.instead
    monkeypatch.setenv("HF_TOKEN", "x")
    assert list(weights_problems(model)) == []
    monkeypatch.delenv("HF_TOKEN")
    refs = folder / "models--owner--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("abc")
    snapshot = folder / "models--owner--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text("{}")
    assert list(weights_problems(model)) == []


def test_offline_needs_the_cache(hub):
    _, model, constants, monkeypatch = hub
    monkeypatch.setenv("HF_TOKEN", "x")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (problem,) = weights_problems(model)
    assert "HF_HUB_OFFLINE" in problem.rule


@pytest.mark.parametrize("revision", ["", "\0", "\ud800", "a b", "../../x", "/etc", "a/../b"])
def test_a_revision_is_a_name(revision):
    assert list(revision_problems(ModelConfig(path="owner/name", revision="refs/pr/7"))) == []
    (problem,) = revision_problems(ModelConfig(path="owner/name", revision=revision))
    assert "no name of a branch" in problem.rule


def test_a_revision_of_a_folder_is_not_ignored():
    (problem,) = revision_problems(ModelConfig(path="bundled", revision="main"))
    assert "no hub repository" in problem.rule


def test_facts_that_the_files_contradict_are_named(folder):
    wrong = ModelConfig(name="mine", pipeline="FluxPipeline", path=str(folder), heads=4, head_dim=24)
    (problem,) = weights_problems(wrong)
    assert str(problem).startswith("model.heads=4: the transformer in model.path has 6")
    assert problem.instead == "type model.heads=6"


def test_a_second_transformer_is_refused(folder):
    index = json.loads((folder / "model_index.json").read_text())
    index["transformer_2"] = index["transformer"]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert "holds a second transformer" in said(folder)[0]
    assert "model.transformers=[transformer,transformer_2]" in said(folder)[0]
