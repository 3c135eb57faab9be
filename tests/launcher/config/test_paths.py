"""What a user's path becomes."""

from pathlib import Path

import pytest

from launcher.config.paths import PATHS, path_problems, user_path
from launcher.config.text import fields


def test_every_path_is_absolute_and_at_home(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert user_path("a/b") == tmp_path / "a" / "b"
    assert user_path("~/x") == Path("/home/somebody/x")
    assert user_path("/x") == Path("/x")
    (tmp_path / "~odd").touch()
    assert user_path("~odd") == tmp_path / "~odd"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("a\0b", "NUL"),
        ("a\ud800", "no file name can"),
        ("~nobody_of_this_name/x", "home"),
        (f"x/{'é' * 128}/y", "a name of 256 bytes; the longest has 255"),
    ],
)
def test_what_is_no_path_is_told(text, said):
    with pytest.raises(ValueError, match=said):
        user_path(text)
    (problem,) = path_problems({"output.dir": text, "lora.path": None, "model.path": "x"})
    assert problem.value == f"output.dir={text}"
    assert said in problem.rule


def test_a_current_folder_that_was_removed(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert user_path("/x") == Path("/x")
    with pytest.raises(ValueError, match="removed"):
        user_path("x")


def test_the_settings_exist():
    assert set(PATHS) <= set(fields())
