"""A recipe to words. It may be a stranger's: what it holds is a value, or is refused by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin
from shared import a_recipe, a_record, validated

from launcher import codec
from launcher.config.compose import Composer, to_config
from launcher.problems import Refused
from launcher.records.formats import FORMATS
from launcher.records.picture import save
from launcher.records.record import File, Weights
from launcher.running import replay
from launcher.running.replay import original, words
from launcher.running.session import Session

OURS = ["model=flux_tiny", "cp=ring_anything", "cp.ring_degree=2", "runtime=cpu", "height=64", "seed=4", "steps=3"]


@pytest.fixture
def config(composer: Composer) -> dict[str, Any]:
    """The configuration of a run, as its recipe has it."""
    found = dataclasses.asdict(to_config(composer.compose(OURS)))
    found["runtime"] |= {"processes": 2, "dtype": "float32", "threads": 1}
    found["cp"] |= {"ring_degree": 2, "ulysses_degree": 1}
    return json.loads(json.dumps(found | {"prompt": "a cat"}))


def changed(config: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The same with some settings changed, `a__b` for a.b."""
    for name, value in settings.items():
        part = config
        *parents, last = name.split("__")
        for parent in parents:
            part = part[parent]
        part[last] = value
    return config


def asked(config: dict[str, Any], composer: Composer, *overrides: str) -> dict[str, Any]:
    """What the words of a recipe compose to."""
    line = words(config, overrides, composer)
    return dataclasses.asdict(to_config(composer.compose(line)))


def test_words_ask_for_the_same(config, composer):
    again = asked(config, composer)
    for name, value in replay.flat(config):
        if name != "prompt" and not name.startswith(replay.PASSED_OVER):
            assert dict(replay.flat(again))[name] == value, name


def test_a_model_that_nobody_named_is_again_the_one_in_its_folder(config, composer):
    assert words(config, (), composer)[0] == "model=flux_tiny"
    config["model"]["path"] = "hub/other"
    assert words(config, (), composer)[0] == "model=flux_tiny"  # nothing is asked of a repository that a stranger names
    found = words(config, ("model.path=folder",), composer)
    assert not any(word.startswith("model=") for word in found)
    config["model"]["name"] = "flux"
    assert words(config, ("model.path=folder",), composer)[0] == "model=flux"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "kept", "gone"),
    [
        ("seed=8", "steps=3", "seed=4"),
        ("cp=ulysses_anything", "runtime.processes=2", "cp.ring_degree=2"),
        ("cp=none", "height=64", "runtime.processes=2"),
        ("cp.ring_degree=3", "cp.mode=ring_anything", "runtime.processes=2"),
        ("runtime.processes=3", "cp.mode=ring_anything", "cp.ring_degree=2"),
        ("model=flux", "seed=4", "model.path=bundled"),
        ("runtime=gpu", "cp.ring_degree=2", "runtime.device=cpu"),
        ("output=webp", "seed=4", "output.format=png"),
    ],
)
def test_an_override_changes_one_thing_and_keeps_the_rest(config, composer, override, kept, gone):
    line = words(config, [override], composer)
    assert kept in line
    assert gone not in line
    assert line[-1] == override
    composer.check_words(line, sweep=False)


def test_what_is_listed_for_each_rank_is_kept_while_there_are_as_many(config, composer):
    then = changed(config, cp__shares=[2, 1], runtime__threads=[2, 1])
    assert {"cp.shares=[2,1]", "runtime.threads=[2,1]"} <= set(words(then, ["seed=3"], composer))
    for override in ("cp=none", "cp.ring_degree=3", "runtime.processes=4"):
        assert not [word for word in words(then, [override], composer) if "[2,1]" in word]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["${oc.env:HOME}", "a, b (c)", "null", "1.10", 'say "x"', "\\${x}", "[a]", "true", ""])
def test_text_is_a_value_and_never_a_reference(config, composer, text):
    assert asked(changed(config, negative_prompt=text), composer)["negative_prompt"] == text
    line = [*words(config, [], composer), replay.text("prompt", text)]
    assert Session(composer).resolve(line)[1].prompts == (text,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"evil": 1}, "recipe: evil: unknown setting"),
        ({"_target_": "os.system"}, "recipe: _target_: unknown setting"),
        ({"model___target_": "os.system"}, "recipe: model._target_: unknown setting"),
        ({"hydra": {"callbacks": {"x": {"_target_": "os.system"}}}}, "recipe: hydra.callbacks.x._target_: unknown"),
        ({"model__name": "evil"}, "recipe: model=evil: conf/model has no such model"),
        ({"model__name": ["a"]}, "conf/model has no such model"),
        ({"model__path": "/etc"}, "recipe: model.path=/etc: names a file of another machine"),
        ({"model__path": "../x"}, "type model.path=FOLDER"),
        ({"model__path": ".../flux"}, "type model.path=FOLDER"),
        ({"model__path": "${oc.env:HOME}/x"}, "names a file of another machine"),
        ({"lora__path": "/home/me/secret.safetensors"}, "type lora.path=FILE"),
        ({"lora__path": "[.../a.safetensors,.../b.safetensors]"}, "type lora.path=[FILE,FILE]"),
        ({"scheduler__options": {"a": [1]}}, "scheduler.options="),
        ({"lora__stack": [{"path": "/etc/passwd"}]}, "lora.stack=[{'path': '/etc/passwd'}]: not a value"),
        ({"steps": {"a": 1}}, "recipe: steps={'a': 1}: not a value that this setting takes"),
        ({"seed": [[1]]}, "not a value"),
    ],
)
def test_what_a_stranger_put_there_is_refused_by_name(config, composer, change, said):
    with pytest.raises(Refused) as refused:
        words(changed(config, **change), [], composer)
    assert said in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"steps": "${oc.env:HOME}"},
        {"height": "x"},
        {"attention__kernel": "${oc.env:HOME}"},
        {"seed": -1},
        {"steps": 1e9},
    ],
)
def test_a_value_that_is_none_is_refused_as_a_typed_one_is(config, composer, change):
    from launcher.rules import problems

    line = words(changed(config, **change), [], composer)
    with pytest.raises(Refused):
        raise Refused(problems(Session(composer).resolve(line)[1]) or [])


def started_from(folder: Path, image: str, *contents: bytes) -> replay.Original:
    """A run that started from files with these contents."""
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    names = [f"image[{number}]" for number in range(len(digests))] if len(digests) > 1 else ["image"]
    return replay.Original(folder, {"image": image}, (), (), (), {"inputs": dict(zip(names, digests, strict=True))})


def test_what_a_run_started_from_is_found_in_its_folder_or_where_it_was_named(tmp_path, monkeypatch, config, composer):
    monkeypatch.chdir(tmp_path)
    run, here = tmp_path / "elsewhere, moved" / "run", tmp_path / "pictures"
    (run / "inputs" / "0").mkdir(parents=True)
    here.mkdir()
    (run / "inputs" / "0.png").write_bytes(b"as the model got it")
    (run / "inputs" / "0" / "cat.jpg").write_bytes(b"a")
    (here / "b.png").write_bytes(b"b")
    (tmp_path / "c.png").write_bytes(b"c")
    own = str(run / "inputs" / "0" / "cat.jpg")
    assert replay.kept(started_from(run, ".../cat.jpg", b"a")) == {"image": own}
    assert replay.kept(started_from(run / "0000.png", ".../cat.jpg", b"a")) == {"image": own}  # of a picture
    assert replay.kept(started_from(run, "pictures/b.png", b"b")) == {"image": str(here / "b.png")}
    several = {"image": f"[{here / 'b.png'},{tmp_path / 'c.png'}]"}
    assert replay.kept(started_from(run, "[pictures/b.png, c.png]", b"b", b"c")) == several
    for image, *contents in (
        ("pictures/b.png", b"another"),
        (str(here / "b.png"), b"b"),  # of this machine or another one: nobody knows
        ("pictures/../pictures/b.png", b"b"),
        ("pictures", b""),
        ("\0", b"b"),
        ("[.../a.png,pictures/b.png]", b"a", b"b"),  # a comma in its folder's name
        ("[pictures/b.png,c.png]", b"b", b"another"),
    ):
        assert replay.kept(started_from(run, image, *contents)) == {}, image
    assert replay.kept(dataclasses.replace(started_from(run, "c.png", b"c"), recorded={})) == {}
    line = words(changed(config, image=".../cat.jpg"), [], composer, {"image": own})
    assert to_config(composer.compose(line)).image == own
    assert "image=x.png" in (line := words(config, ["image=x.png"], composer, {"image": own}))
    assert own not in " ".join(line)
    with pytest.raises(Refused, match="SHA-256 is in the run's folder, nor where it was named"):
        words(config, [], composer)


def test_weights_of_a_single_file_are_taken_where_they_are_the_recorded_ones(tmp_path, monkeypatch, config, composer):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"weights")
    digests = {f"model.{name}": hashlib.sha256(b"weights").hexdigest() for name in ("path", "transformer")}
    named = {"model": {"path": "x.safetensors", "base": "bundled", "transformer": "y.gguf"}}
    source = replay.Original(tmp_path, named, (), (), (), {"inputs": digests})
    here = replay.kept(source)
    assert here == {"model.path": str(tmp_path / "x.safetensors")}
    line = words(changed(config, model__path="x.safetensors", model__base="bundled"), [], composer, here)
    asked = to_config(composer.compose(line))
    assert (asked.model.path, asked.model.base) == (here["model.path"], "bundled")
    assert replay.strangers(asked, [], composer, here.values()) == []
    with pytest.raises(Refused, match=r"no file with the recorded SHA-256 is where it was named; type model.path=FILE"):
        words(config, [], composer)


def test_a_folder_that_is_here_is_not_taken_for_a_repository(config, composer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "model.path=owner/name" in words(changed(config, model__path="owner/name"), [], composer)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    with pytest.raises(Refused, match="names a file of another machine"):
        words(config, [], composer)


def test_a_models_facts_and_plan_are_this_installations(config, composer):
    evil = changed(config, model__pipeline="Evil", model__heads=7, model__cp_plan={"split": {"": {"x": {"dim": 0}}}})
    again = to_config(composer.compose(words(evil, [], composer)))
    assert (again.model.pipeline, again.model.heads) == ("FluxPipeline", 6)
    assert replay.facts_that_differ(evil, again) == ["model.pipeline", "model.heads", "model.cp_plan"]


@pytest.mark.slow
def test_what_neither_conf_nor_the_user_names_is_a_strangers(config, composer):
    def found(*overrides: str) -> list[str]:
        now = to_config(composer.compose(words(config, overrides, composer)))
        return replay.strangers(now, overrides, composer)

    assert found() == []
    changed(config, model__path="owner/name", model__revision="refs/pr/1")
    assert found() == ["model.path=owner/name", "model.revision=refs/pr/1"]
    assert found("model.path=owner/name") == ["model.revision=refs/pr/1"]
    assert found("model=flux_tiny") == []


def test_a_picture_is_an_original(tmp_path):
    recipe = a_recipe(weights=Weights({"vae/x.safetensors": "ab"}, "cd"), scheduler="Euler")
    save([Image.new("RGB", (3, 2))], tmp_path / "x.png", recipe, FORMATS["png"])
    found = original(tmp_path / "x.png")
    assert (found.prompts, found.pictures) == (("a cat",), (tmp_path / "x.png",))
    assert found.recorded["weights"] == {"vae/x.safetensors": "ab", "commit": "cd"}


def test_a_runs_folder_is_an_original(tmp_path):
    record = a_record(files=(File("0000.png", "ab", 1, 2, 3, 1, 0),), environment={"cuda": "13"}, status="done")
    (tmp_path / "run.json").write_text(codec.dumps(record))
    validated(tmp_path)
    for path in (tmp_path, tmp_path / "run.json"):
        found = original(path)
        assert found.digests == ("ab",)
        assert found.recorded["environment"] == {"cuda": "13"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("multirun.yaml", b"", "the folder of a sweep"),
        ("run.json", b"{", "not JSON"),
        ("run.json", b"[" * 100_000, "not JSON"),
        ("run.json", b'{"schema": 99}', "schema 99, which a newer version wrote"),
        ("other", b"", "can't be read"),
    ],
)
def test_a_folder_that_is_none_is_told(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=said):
        original(tmp_path)


def chunks(*extra: tuple[bytes, bytes]) -> bytes:
    """A PNG with chunks of one's own."""
    header = (b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0))
    data = (b"IDAT", zlib.compress((b"\0" + b"\1" * 6) * 2))
    parts = [header, *extra, data, (b"IEND", b"")]
    told = (struct.pack(">I", len(one)) + kind + one + struct.pack(">I", zlib.crc32(kind + one)) for kind, one in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(told)


BOMB = zlib.compress(b"[" * (200 << 20), 9)


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        ((b"iTXt", b"launcher\0\1\0\0\0" + BOMB), "a compressed text in it unpacks to more than 1 MiB"),
        ((b"zTXt", b"launcher\0\0" + BOMB), "a compressed text in it unpacks to more than 1 MiB"),
        ((b"iTXt", b"launcher\0\0\0\0\0" + b"[" * 200_000), "not JSON: nested too deeply"),
        ((b"iTXt", b"launcher\0\0\0\0\0{}"), "missing"),
        ((b"iTXt", b'launcher\0\0\0\0\0{"schema":3,"config":{"prompt":1e999}'), "recipe"),
        ((b"tEXt", b"parameters\0a cat\nSteps: 3, Seed: 4"), "no recipe"),
        ((b"tEXt", b"launcher\0\xff\xfe"), "recipe"),
    ],
)
@pytest.mark.slow
def test_a_hostile_picture_is_told_and_costs_nothing(tmp_path, chunk, said):
    (tmp_path / "x.png").write_bytes(chunks(chunk))
    with pytest.raises(Refused, match=said):
        original(tmp_path / "x.png")


def test_a_compressed_recipe_of_a_usual_size_is_read(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("launcher", codec.dumps(a_recipe()), zip=True)
    Image.new("RGB", (2, 2)).save(tmp_path / "x.png", pnginfo=info)
    assert original(tmp_path / "x.png").prompts == ("a cat",)


def test_a_recipe_without_a_prompt_is_told(tmp_path: Path):
    save([Image.new("RGB", (3, 2))], tmp_path / "x.png", a_recipe(config={"seed": 1}), FORMATS["png"])
    with pytest.raises(Refused, match="no prompt in its recipe"):
        original(tmp_path / "x.png")
