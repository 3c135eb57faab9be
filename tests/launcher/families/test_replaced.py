"""A part that is given in place of a pipeline's own is told from a wrong one by its headers."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hub import COMMIT, hub
from safetensors.torch import load_file, save_file

from launcher.config.model_schema import ModelConfig
from launcher.estimates.notes import notes
from launcher.families.replaced import files, held, part_problems, single_files
from launcher.families.weights import BUNDLED
from launcher.records.files import sha256
from launcher.rules import problems
from launcher.running.first_record import input_hashes, known_weights, resolved
from launcher.running.message import group_key

TRANSFORMER = next((BUNDLED / "transformer").glob("*.safetensors"))


def told(**given: str) -> str:
    model = ModelConfig(name="x", pipeline="FluxPipeline", path="bundled", **given)
    return "; ".join(map(str, part_problems(model)))


def test_what_fits_is_taken():
    assert told() == ""
    assert told(transformer=str(TRANSFORMER)) == ""
    assert told(transformer=str(BUNDLED / "transformer")) == ""
    assert told(vae=str(BUNDLED / "vae")) == ""
    assert files(str(BUNDLED / "transformer")) == [TRANSFORMER]
    assert '"FluxTransformer2DModel"' in single_files()
    assert "FluxPipeline" not in single_files()


def test_what_does_not_fit_is_told(tmp_path):
    assert "no such file or folder" in told(vae="/nowhere/at/all")
    assert "and model.path has a FluxTransformer2DModel" in told(transformer=str(BUNDLED / "vae"))
    assert "it has a folder transformer, which is one" in told(transformer=str(BUNDLED))
    (tmp_path / "x.ckpt").write_bytes(b"GGUF")
    assert "not a .safetensors file" in told(transformer=str(tmp_path / "x.ckpt"))
    (tmp_path / "x.safetensors").write_bytes(TRANSFORMER.read_bytes()[:5000])
    assert "cut off" in told(transformer=str(tmp_path / "x.safetensors"))
    state = load_file(TRANSFORMER)
    key = next(key for key in state if key.startswith("x_embedder.weight"))
    save_file(state | {key: torch.ones(3, 3)}, tmp_path / "x.safetensors")
    assert "does not fit model.path: its transformer/config.json" in told(transformer=str(tmp_path / "x.safetensors"))
    folder = shutil.copytree(BUNDLED / "transformer", tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"guidance_embeds": not config["guidance_embeds"]}))
    assert "says guidance_embeds=" in told(transformer=str(folder))
    (folder / "config.json").write_text(json.dumps(config))
    next(folder.glob("*.safetensors")).unlink()
    assert "has no .safetensors file" in told(transformer=str(folder))


def single(path: Path, *words: str, base: str = "bundled") -> list[str]:
    return ["runtime=cpu", f"model.path={path}", f"model.base={base}", *words]


def test_a_single_file_gives_the_transformer_and_the_base_the_rest(ask, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(TRANSFORMER.read_bytes())
    request = ask(*single(path))
    assert problems(request) == []
    assert input_hashes(request) == {"model.path": sha256(path)}
    config = resolved(request)["model"]
    assert (config["path"], config["base"]) == (".../x.safetensors", "bundled")
    (part,) = group_key(request).load.replaced
    assert (part.part, part.path, part.setting) == ("transformer", str(path), "model.path")
    state = {"model.diffusion_model.x": torch.ones(1), "vae.x": torch.ones(1), "text_encoders.x": torch.ones(1)}
    save_file(state, path)
    assert held(str(path)) == ["transformer", "vae"]
    (note,) = [note for note in notes(ask(*single(path))) if "x.safetensors" in note]
    assert "text encoders in x.safetensors (text_encoders....) are not read" in note


def test_a_single_file_that_is_none_is_told_once(ask, tmp_path):
    def said(*words: str) -> str:
        return " | ".join(map(str, problems(ask(*words))))

    pickle, cut = tmp_path / "x.ckpt", tmp_path / "x.safetensors"
    pickle.write_bytes(b"x")
    cut.write_bytes(TRANSFORMER.read_bytes()[:5000])
    assert f"model.path={pickle}: not a .safetensors file; other formats can run code" in said(*single(pickle))
    assert said(*single(cut)).count("model.path=") == 1
    assert "cut off" in said(*single(cut))
    assert "model.path=/nowhere: no such file" in said(*single(Path("/nowhere")))
    assert "is a folder, and model.base=bundled goes with a single" in said(*single(BUNDLED))
    assert "lacks, and model.path=bundled is a whole pipeline" in said("runtime=cpu", "model.base=bundled")
    cut.write_bytes(TRANSFORMER.read_bytes())
    assert "model.base=/nowhere: no such folder" in said(*single(cut, base="/nowhere"))
    assert "leave one of them out" in said(*single(cut, f"model.transformer={cut}"))
    alone = said("runtime=cpu", f"model.path={cut}")
    assert f"type model.path={cut} model.base=FOLDER" in alone


def test_it_is_in_the_record_and_asks_for_ranks_of_its_own(ask, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(TRANSFORMER.read_bytes())
    request = ask("runtime=cpu", f"model.transformer={path}")
    assert set(input_hashes(request)) == {"model.transformer"}
    known = known_weights(request)
    assert known is not None
    assert not [name for name in known.files if name.startswith("transformer/")]
    assert resolved(request)["model"]["transformer"] == ".../x.safetensors"
    assert group_key(request) != group_key(ask("runtime=cpu"))


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A cache of the hub's with the bundled model as owner/name, at a commit, and no way out."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots").mkdir()
    return Path(shutil.copytree(BUNDLED, repository / "snapshots" / COMMIT))


@pytest.mark.parametrize("at", ["", "@main", f"@{COMMIT}"])
@pytest.mark.parametrize("inside", ["transformer", f"transformer/{TRANSFORMER.name}"])
def test_a_part_in_the_hubs_cache_is_as_one_that_is_here(ask, cache, at, inside):
    request = ask("runtime=cpu", f"model.transformer=owner/name{at}/{inside}")
    assert problems(request) == []
    assert input_hashes(request) == {"model.transformer": sha256(TRANSFORMER)}
    assert resolved(request)["model"]["transformer"] == f"owner/name@{COMMIT}/{inside}"
    (part,) = group_key(request).load.replaced
    assert (part.path, part.repository) == (str(cache / inside), "")


def test_a_part_on_the_hub_is_refused_as_one_that_is_here_or_where_nothing_is_fetched(ask, cache):
    def said(text: str) -> str:
        return " | ".join(map(str, problems(ask("runtime=cpu", f"model.transformer={text}"))))

    assert "and model.path has a FluxTransformer2DModel" in said("owner/name/vae")
    (cache / "transformer" / TRANSFORMER.name).write_bytes(TRANSFORMER.read_bytes()[:5000])
    assert "cut off" in said("owner/name/transformer")
    for text in ("owner/name", "owner/other", "owner/name@v2/transformer", "owner/name/x.safetensors"):
        assert "nor in the cache; HF_HUB_OFFLINE is set" in said(text)
    for text in ("owner/../name", "/owner/name", "owner/x.safetensors", "a/b@/c", "https://hf.co/a/b"):
        assert "no such file or folder on this machine, nor a name on the hub" in said(text)


def test_the_hub_is_asked_for_a_part_before_the_start(ask, cache, monkeypatch):
    from huggingface_hub import constants

    def said(text: str) -> str:
        return " | ".join(map(str, problems(ask("runtime=cpu", f"model.vae={text}"))))

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with hub({"a/b": BUNDLED}) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        assert said("a/b/vae") == said(f"a/b@{COMMIT}/vae/diffusion_pytorch_model.safetensors") == ""
        assert "a/b has no config.json" in said("a/b")
        assert "or its folder: model.vae=a/b/vae" in said("a/b")
        assert "a/b has no branch, tag or commit v9" in said("a/b@v9/vae")
        assert "has no repository a/c that you may read" in said("a/c/vae")
        request = ask("runtime=cpu", f"model.vae=a/b@{COMMIT}/vae")
    (part,) = group_key(request).load.replaced
    assert (part.path, part.repository, part.revision, part.patterns[0]) == ("vae", "a/b", COMMIT, "vae/config.json")
    assert input_hashes(request) == {}
    assert "can't be reached" in said("a/b/vae")


@pytest.mark.parametrize("key", ["transformer", "vae", "base"])
def test_it_is_no_setting_of_a_stranger(ask, key):
    from launcher.running.replay import _flaw

    assert "names a file of another machine" in str(_flaw(f"model.{key}", "/etc/passwd"))
