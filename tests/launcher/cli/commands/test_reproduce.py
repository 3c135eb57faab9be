"""reproduce: the same pixels on the same machine, how close otherwise, and what it refuses before anything runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from shared import a_recipe, validated

import launcher
from launcher.cli.commands import reproduce
from launcher.cli.main import main
from launcher.config.compose import Composer
from launcher.records import runs
from launcher.records.compare import difference
from launcher.records.formats import FORMATS
from launcher.records.picture import read_recipe, save
from launcher.reporting import page
from launcher.running import replay
from launcher.running.hold import is_held

SMALL = ["cp=ring_anything", "runtime=cpu", "height=40", "width=72", "steps=2", "prompt=green waves"]


def picture(path: Path, **config: Any) -> Path:
    save([Image.new("RGB", (8, 8))], path, a_recipe(config={"prompt": "a cat", "seed": 1} | config), FORMATS["png"])
    return path


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, launcher.Pool(*SMALL) as pool:
        patch.chdir(folder := tmp_path_factory.mktemp("pool"))
        yield pool
        validated(folder)


@pytest.mark.slow
def test_the_same_mode_and_degrees_make_the_same_pixels_20_times_of_20(pool, composer: Composer):
    first = pool.run("height=16", "width=16").files[0].absolute()
    source = replay.original(first)
    line = replay.words(source.config, [], composer)
    found = [difference(first, pool.run(*line).files[0]).same for _ in range(20)]
    assert found == ["bytes"] * 20


@pytest.mark.slow
def test_another_mode_is_close_and_another_seed_is_not(pool, composer: Composer):
    first = pool.run("seed=3").files[0].absolute()
    config = replay.original(first).config
    close = difference(first, pool.run(*replay.words(config, ["cp=ulysses_anything"], composer)).files[0])
    assert close.largest is not None
    assert close.largest <= 1
    other = difference(first, pool.run(*replay.words(config, ["seed=8"], composer)).files[0])
    assert other.psnr is not None
    assert other.psnr < 30


@pytest.mark.slow
def test_a_renamed_a_moved_and_a_re_encoded_picture(pool, launch, tmp_path):
    """The run's folder is gone, and the file has another name and format: what it carries is enough."""
    made = pool.run("seed=5", "cp=ring_anything").files[0].absolute()
    renamed = tmp_path / "a cat, (1).png"
    renamed.write_bytes(made.read_bytes())
    with Image.open(made) as image:
        save([image.convert("RGB")], tmp_path / "again.jpg", read_recipe(made), FORMATS["jpeg"])
        save([image.convert("RGB").crop((0, 0, 8, 8))], tmp_path / "cropped.png", read_recipe(made), FORMATS["png"])
    ended = launch("reproduce", str(renamed), "--exact", "output.dir=outputs")
    assert ended.code == 0, ended.err
    assert "0000.png   same bytes" in ended.out
    assert "1 of 1 picture" in ended.out
    assert "differs" not in ended.out
    (run,) = ended.runs
    assert "PSNR" in str(difference(tmp_path / "again.jpg", run / "0000.png"))
    assert "can't be compared" in str(difference(tmp_path / "cropped.png", run / "0000.png"))


@pytest.mark.slow
def test_a_folder_that_was_moved_lists_reports_and_reproduces(pool, composer: Composer, tmp_path):
    made = pool.run("seed=6", "images=2")
    moved = tmp_path / "other place" / "run"
    shutil.copytree(made.files[0].parent, moved)
    assert [run.status for run in runs.find(moved.parent, is_held)] == ["done"]
    assert len(page.write([moved.parent], moved.parent, is_held)) == 1
    source = replay.original(moved)
    again = pool.run(*replay.words(source.config, [], composer))
    assert [difference(*pair).same for pair in zip(source.pictures, again.files, strict=True)] == ["bytes", "bytes"]


@pytest.mark.slow
def test_a_run_that_started_from_a_picture_is_made_again_without_it(pool, composer: Composer, tmp_path):
    Image.effect_mandelbrot((80, 60), (-2, -1.5, 1, 1.5), 100).convert("RGB").save(tmp_path / "cat.jpg")
    made = pool.run(f"image={tmp_path / 'cat.jpg'}", "seed=6")
    (tmp_path / "cat.jpg").unlink()
    moved = shutil.copytree(made.files[0].parent, tmp_path / "moved")
    for source in (replay.original(moved), replay.original(moved / "0000.png")):
        again = pool.run(*replay.words(source.config, [], composer, replay.kept(source)))
        assert difference(made.files[0], again.files[0]).same == "bytes"
        assert again.record["inputs"] == made.record["inputs"]


def test_the_recipe_is_shown_and_nothing_is_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = picture(tmp_path / "x.png", prompt="\x1b[31mred", steps=3)
    assert main(["reproduce", str(path), "--show", "runtime=cpu"]) == 0
    out = capsys.readouterr().out
    assert "recipe     python -m launcher seed=1 steps=3 runtime=cpu 'prompt=\"\\x1b[31mred\"'" in out
    assert "\x1b" not in out
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize("word", ["model.path=owner/name", "model.revision=refs/pr/1"])
def test_a_model_that_nobody_here_names_is_not_fetched_unasked(tmp_path, monkeypatch, capsys, word):
    monkeypatch.chdir(tmp_path)
    key, _, value = word.partition("=")
    path = picture(tmp_path / "x.png", model={"name": "flux_tiny", key.partition(".")[2]: value})
    assert main(["reproduce", str(path)]) == 1
    err = capsys.readouterr().err
    assert f"recipe: {word}: neither this installation's conf/model nor your own words name it" in err
    assert "type --yes" in err


@pytest.mark.parametrize(("answer", "agreed"), [("y", True), ("yes", True), ("", False), ("n", False), (None, False)])
def test_at_a_terminal_it_asks(monkeypatch, answer, agreed):
    def told(_: str) -> str:
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.setattr("builtins.input", told)
    if agreed:
        reproduce._agree(["model.path=a/b"], yes=False)
        return
    with pytest.raises(launcher.Refused):
        reproduce._agree(["model.path=a/b"], yes=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "takes one picture or one run's folder"),
        (["a.png", "b.png"], "and got 2"),
        (["nowhere.png"], "nowhere.png: can't be read (No such file or directory)"),
        (["plain.png"], "carries no recipe"),
        (["x.png", "sed=3"], "type seed=3"),
        (["x.png", "--exakt"], "type --exact"),
    ],
)
def test_it_says_what_is_wrong(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (2, 2)).save(tmp_path / "plain.png")
    picture(tmp_path / "x.png")
    assert main(["reproduce", *words]) == 1
    assert said in capsys.readouterr().err


def test_several_prompts_go_by_a_file(tmp_path):
    source = replay.Original(tmp_path, {}, ("a, b", "${c}"), (), (), {})
    with reproduce.prompts_file(source, []) as (word,):
        assert json.loads(Path(word.partition("=")[2]).read_text()) == ["a, b", "${c}"]
    assert not Path(word.partition("=")[2]).exists()
    with reproduce.prompts_file(source, ["prompt=x"]) as none:
        assert none == []
