"""No caption is a row of empty boxes."""

import subprocess

import pytest
from PIL import ImageFont

from launcher.records import captions
from launcher.records.captions import SIZE, lacking, readable, wrapped

TEXTS = ["a cat", "café", "猫が座る", "قطة", "🦄", "ελληνικά", "हिन्दी", "кошка", "e\u0301"]


@pytest.mark.parametrize("text", TEXTS)
def test_every_letter_of_a_caption_is_in_its_font(text):
    shown, font = readable(text)
    assert lacking(shown, font) == set()
    assert shown == text or "\\u" in shown.lower()


@pytest.mark.parametrize("text", TEXTS)
def test_without_other_fonts_letters_are_escaped(text, monkeypatch):
    monkeypatch.setattr(captions, "_files", lambda _: iter(["/nowhere.ttf"]))
    shown, font = readable(text)
    assert lacking(shown, font) == set()
    assert shown.encode().decode("unicode_escape" if shown.isascii() else "utf-8") == text


def test_pillows_own_font_lacks_what_it_draws_as_boxes():
    font = ImageFont.load_default(SIZE)
    assert lacking("a cat: x=1, y", font) == set()
    assert lacking("a 猫\n🦄", font) == {"猫", "🦄"}


def test_a_slow_or_missing_fontconfig_is_no_error(monkeypatch):
    def slow(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("fc-list", 5)

    monkeypatch.setattr(subprocess, "run", slow)
    assert readable("猫")[0] == "\\u732b"
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert readable("猫")[0] == "\\u732b"


def test_lines_fit_their_width():
    for text in ("a b c " * 20, "x" * 100, "猫" * 60, "", "one", "a  b " + "y" * 80):
        shown, font = readable(text)
        lines = wrapped(shown, font, 256)
        assert all(font.getlength(line) <= 256 for line in lines)
        assert "".join("".join(lines).split()) == "".join(shown.split())
    assert wrapped("", ImageFont.load_default(SIZE), 256) == []
