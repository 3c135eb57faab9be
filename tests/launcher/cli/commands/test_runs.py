"""runs, and its show, diff and rm, on folders that were put there."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from shared import a_recipe, a_record

from launcher import codec
from launcher.cli.main import main
from launcher.records.files import sha256
from launcher.records.formats import FORMATS
from launcher.records.picture import save
from launcher.records.record import File
from launcher.running.hold import held

CONFIG = {"model": {"name": "flux"}, "cp": {"mode": "ring", "ring_degree": 2, "ulysses_degree": 1}, "steps": 2}


def put(folder: Path, colour: str = "red", **changes) -> Path:
    """A run with a picture."""
    folder.mkdir(parents=True)
    save([Image.new("RGB", (16, 12), colour)], folder / "0000.png", a_recipe(), FORMATS["png"])
    file = File("0000.png", sha256(folder / "0000.png"), 1, 12, 16, 1, 0)
    config = {**CONFIG, **changes.pop("config", {})}
    record = a_record(
        **{"status": "done", "config": config, "files": (file,), "step_seconds": ((1.0, 2.0),), **changes}
    )
    (folder / "run.json").write_text(codec.dumps(record))
    return folder


@pytest.fixture
def outputs(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "outputs" / "a")
    put(tmp_path / "outputs" / "b", "blue", config={"steps": 3}, status="failed", error="rank 1: \x1b[31mbroke")
    return tmp_path / "outputs"


def test_the_list_and_its_forms(outputs, capsys):
    assert main(["runs"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 3
    assert "rank 1: \\x1b[31mbroke" in out
    assert main(["runs", "outputs", "status=failed", "--columns", "run,steps,cp.ring_degree", "--csv"]) == 0
    assert capsys.readouterr().out == "run,steps,cp.ring_degree\nb,3,2\n"
    assert main(["runs", "steps=3", "--json"]) == 0
    assert [row["run"] for row in json.loads(capsys.readouterr().out)] == ["b"]
    assert main(["runs", "--sort", "steps", "--reverse", "--limit", "1", "--columns", "run"]) == 0
    assert capsys.readouterr().out == "run\nb\n"
    assert main(["runs", "model=wan"]) == 0
    assert capsys.readouterr().out == "no run below outputs is of this kind\n"


def test_a_folder_that_was_copied_elsewhere_lists_as_before(outputs, tmp_path, capsys):
    main(["runs", "outputs"])
    before = capsys.readouterr().out
    shutil.copytree(outputs, tmp_path / "elsewhere" / "copy")
    main(["runs", "elsewhere/copy"])
    assert capsys.readouterr().out == before


def test_one_run_is_shown(outputs, capsys):
    assert main(["runs", "show", "outputs/b"]) == 0
    out = capsys.readouterr().out
    assert "rank 1: \\x1b[31mbroke" in out
    assert "0000.png" in out
    assert main(["runs", "show", "outputs/b/run.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["steps"] == 3


def test_two_runs_are_compared_with_a_map(outputs, tmp_path, capsys):
    assert main(["runs", "diff", "outputs/a", "outputs/b", "--map", "map.png"]) == 0
    out = capsys.readouterr().out
    assert "differs    steps: 2 -> 3" in out
    assert "differs    status: done -> failed" in out
    assert "picture    0000.png: PSNR" in out
    with Image.open(tmp_path / "map.png") as image:
        assert image.size == (48, 12)
        assert [image.getpixel((x, 5)) for x in (5, 21, 37)] == [(255, 0, 0), (0, 0, 255), (255, 255, 255)]
    assert main(["runs", "diff", "outputs/a", "outputs/b", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["differs"]["steps"] == [2, 3]
    assert found["pictures"][0]["largest"] == 255


def test_a_run_is_removed_when_that_is_agreed(outputs, capsys, monkeypatch):
    (outputs / "a" / "mine.txt").write_text("x")
    assert main(["runs", "rm", "outputs/a"]) == 1
    assert "type --yes" in capsys.readouterr().err
    assert (outputs / "a").exists()
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.setattr("builtins.input", lambda _: "")
    assert main(["runs", "rm", "outputs/a"]) == 0
    captured = capsys.readouterr()
    assert "This removes 1 run with 3 files: outputs/a" in captured.err
    assert "nothing was removed" in captured.out
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert main(["runs", "rm", "outputs/a"]) == 0
    assert sorted(path.name for path in outputs.iterdir()) == ["b"]


def test_what_is_no_run_or_at_work_is_not_removed(outputs, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "run.json").write_text("{}")
    (tmp_path / "link").symlink_to(outputs / "b")
    with held(outputs / "a", "x"):
        assert main(["runs", "rm", "outputs/a", "photos", "link", "--yes"]) == 1
    err = capsys.readouterr().err
    for said in ("a launcher is at work there", "another program's: it may not be a run", "is a link"):
        assert said in err
    assert (outputs / "b" / "run.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "no such folder"),
        (["outputs", "more"], "lists one folder"),
        (["--sort", "colour"], "unknown column"),
        (["--columns", "run,colour"], "unknown column"),
        (["show"], "takes 1 run; type runs show RUN"),
        (["diff", "outputs/a"], "takes 2 runs"),
        (["show", "outputs"], "no run.json in it"),
        (["show", "outputs/c"], "no such folder"),
        (["diff", "outputs/a", "outputs/b", "--map", "no/x.png"], "can't be written"),
    ],
)
def test_it_says_what_is_wrong(outputs, capsys, words, said):
    assert main(["runs", *words]) == 1
    assert said in capsys.readouterr().err.replace("\n          ", "; ")


def test_its_page(capsys):
    assert main(["runs", "--help"]) == 0
    out = capsys.readouterr().out
    assert "runs diff RUN RUN" in out
    assert "s/step" in out


def test_what_a_stranger_wrote_into_a_record_is_told_in_words(outputs, capsys):
    """Of another kind than ours, deeper than any, or with a terminal's codes in it."""
    place = outputs / "a" / "run.json"
    data = json.loads(place.read_text())
    place.write_text(json.dumps(data | {"versions": "none", "kernel": "\x1b[2J", "checkout": 10**400}))
    assert main(["runs", "diff", "outputs/a", "outputs/b"]) == 0
    assert main(["runs", "--columns", "run,kernel", "--csv"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "a,\\x1b[2J" in out
    nested = '{"a":' * 800 + "{}" + "}" * 800
    deep = json.dumps(data | {"versions": {}}).replace('"versions": {}', f'"versions": {nested}')
    place.write_text(deep)
    assert main(["runs", "show", "outputs/a"]) == 1
    assert "a run.json there is nested too deeply to be shown" in capsys.readouterr().err
