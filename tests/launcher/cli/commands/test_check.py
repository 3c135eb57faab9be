"""`check` on a command line: what it refuses before any rank is started."""

from __future__ import annotations

import pytest

from launcher.cli.commands import check
from launcher.cli.main import main
from launcher.running.session import Session


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("word", ["-m", "--multirun"])
def test_it_takes_no_sweep(capsys, place, word):
    assert main(["check", "cp=ring,ulysses", word]) == 1
    out, err = capsys.readouterr()
    assert (
        err == f"launcher: {word}: check takes one configuration, not a sweep\n          type check=true in a sweep\n"
    )
    assert out == ""
    assert list(place.iterdir()) == []


def test_its_help_is_its_own(capsys):
    assert main(["check", "--help"]) == 0
    out = capsys.readouterr().out
    assert "python -m launcher check [option ...]" in out
    assert check.ABOUT in out


def test_one_process_has_nothing_to_compare(capfd, place):
    assert main(["check", "runtime=cpu", "cp=none", "check=false"]) == 1
    out, err = capfd.readouterr()
    assert "check=true: compares several ranks with one" in out + err
    assert not list(place.rglob("*.png"))


@pytest.mark.parametrize(("word", "said"), [("heigth=1", "type height=1"), ("--frobnicate", "unknown option")])
def test_bad_words_are_refused_as_for_a_run(capfd, place, word, said):
    assert main(["check", "cp=ring", word]) == 1
    out, err = capfd.readouterr()
    assert said in out + err
    assert "Traceback" not in out + err


def test_whatever_is_typed_it_is_a_check_alone(monkeypatch):
    """What ranks make of it is tests/distributed/test_check.py's."""
    asked: list[tuple[list[str], bool]] = []
    monkeypatch.setattr(Session, "start", lambda _, words, only_check: asked.append((words, only_check)))
    assert main(["check", "cp=ring", "check=false"]) == 0
    assert asked == [(["cp=ring", "check=false", "check=true"], True)]
