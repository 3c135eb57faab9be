"""Where a model's files are, and which of them are weights."""

import json

import pytest
import torch
from safetensors.torch import save_file

from launcher.config.model_schema import ModelConfig
from launcher.families.weights import (
    BUNDLED,
    is_hub,
    location,
    not_a_folder,
    revision_problems,
    variants,
    weight_files,
)


def test_a_location_is_a_folder_or_a_repository(tmp_path, monkeypatch):
    assert location(ModelConfig(path="~/x")).startswith("/")
    assert is_hub(ModelConfig(path="owner/name"))
    for no_name in ("my models/flux", "a\nb/c", 'a/"b"', "a/é", "a/", "/a", "./a", "-"):  # nothing to ask the hub for
        assert not is_hub(ModelConfig(path=no_name))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert not is_hub(ModelConfig(path="owner/name"))


@pytest.mark.parametrize("revision", ["", "\0", "\ud800", "a b", "../../x", "/etc", "a/../b"])
def test_a_revision_is_a_name(revision):
    assert list(revision_problems(ModelConfig(path="owner/name", revision="refs/pr/7"))) == []
    (problem,) = revision_problems(ModelConfig(path="owner/name", revision=revision))
    assert "not the name of a branch" in problem.rule


def test_a_revision_of_a_folder_is_not_ignored():
    (problem,) = revision_problems(ModelConfig(path="bundled", revision="main"))
    assert "is not a hub repository" in problem.rule


def sharded(folder, between="", names=("a", "b")):
    shards = [f"model-0000{number + 1}-of-0000{len(names)}{between}.safetensors" for number in range(len(names))]
    for name, shard in zip(names, shards, strict=True):
        save_file({name: torch.zeros(5)}, folder / shard)
    index = {"metadata": {"total_size": 40}, "weight_map": dict(zip(names, shards, strict=True))}
    (folder / f"model.safetensors.index{between}.json").write_text(json.dumps(index))
    return shards


@pytest.mark.parametrize("between", ["", ".fp16"])
def test_shards_are_those_that_the_index_names(tmp_path, between):
    first, second = sharded(tmp_path, between)
    variant = between.removeprefix(".")
    assert variants(tmp_path, "model") == {variant}
    found = weight_files(tmp_path, "model", variant)
    assert [file.name for file in found.files] == [first, second]
    assert (found.missing, found.flaws, found.parameters) == ((), (), 10)
    (tmp_path / second).unlink()
    assert weight_files(tmp_path, "model", variant).missing == (second,)
    (tmp_path / second).symlink_to("../../blobs/gone")  # as the hub's cache looks after a fetch that was cut off
    assert weight_files(tmp_path, "model", variant).missing == (second,)


def test_a_shard_that_lacks_what_the_index_places_there_is_named(tmp_path):
    first, second = sharded(tmp_path)
    (tmp_path / second).write_bytes((tmp_path / first).read_bytes())
    assert weight_files(tmp_path, "model", "").flaws == (
        f"{second} lacks b, which model.safetensors.index.json places there",
    )


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "has no weight_map"),
        ('{"weight_map": {"a": "../../etc/passwd.safetensors"}}', "not a .safetensors file beside it"),
        ('{"weight_map": {"a": 3}}', "not a .safetensors file beside it"),
        ('{"weight_map": {"a": "model.bin"}}', "not a .safetensors file beside it"),
    ],
)
def test_an_odd_index_is_named(tmp_path, index, said):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    (flaw,) = weight_files(tmp_path, "model", "").flaws
    assert flaw.startswith("model.safetensors.index.json")
    assert said in flaw


def test_variants_are_told_by_the_names(tmp_path):
    for name in ("model.safetensors", "model.fp16.safetensors", "model.safetensors.index.bf16.json", "x.safetensors"):
        (tmp_path / name).touch()
    assert variants(tmp_path, "model") == {"", "fp16", "bf16"}
    assert variants(tmp_path, "diffusion_pytorch_model") == set()
    assert variants(tmp_path / "none", "model") == set()


@pytest.mark.parametrize(
    ("path", "rule", "instead"),
    [
        ("https://huggingface.co/owner/name", "is an address", "type model.path=owner/name"),
        ("https://huggingface.co/owner/name/tree/main", "is an address", "type model.path=owner/name"),
        ("hf://owner/name", "is an address", "type model.path=owner/name"),
        ("huggingface.co/owner/name", "is an address", "type model.path=owner/name"),
        ("https://civitai.com/models/7/x", "is an address", "fetch it, and give the folder"),
        ("owner/name/", "without a slash at the end", "type model.path=owner/name"),
        ("./owner/name", "no such folder", "give the folder of a diffusers pipeline"),
        (str(BUNDLED / "vae" / "config.json"), "is a file", f"type model.path={BUNDLED}"),
        (__file__, "is a file", "give the folder of a diffusers pipeline"),
    ],
)
def test_what_is_no_folder_is_told_what_it_is(path, rule, instead):
    told = not_a_folder(path)
    assert rule in told[0]
    assert told[1].startswith(instead)
