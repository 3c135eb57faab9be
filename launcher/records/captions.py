"""Captions that can be read: a font of this machine that has all their letters, or else escapes of those that it lacks.

Pillow's own font has Latin letters only; what a font lacks it draws as an empty box.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

from PIL import ImageFont

SIZE = 12  # pixels
NO_LETTER = "\U0010ffff"  # which no font has
STYLES = ("Bold", "Italic", "Oblique", "Mono")  # taken where there is nothing plainer
FIND_SECONDS = 5.0  # that fontconfig has for an answer

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def readable(text: str) -> tuple[str, Font]:
    """A caption as it can be drawn, and the font that has its letters."""
    usual = ImageFont.load_default(SIZE)
    missing = lacking(text, usual)
    if not missing:
        return text, usual
    for path in _files(missing):
        try:
            font = ImageFont.truetype(path, SIZE)
        except OSError:  # no font that Pillow reads
            continue
        if not lacking(text, font):
            return text, font
    return "".join(_escape(letter) if letter in missing else letter for letter in text), usual


def lacking(text: str, font: Font) -> set[str]:
    """The letters of a text that a font has not. Blanks and marks that are not drawn are never missing."""
    box = _drawn(NO_LETTER, font)
    letters = {letter for letter in text if letter.isprintable() and not letter.isspace()}
    return {letter for letter in letters if _drawn(letter, font) == box}


def wrapped(text: str, font: Font, width: int) -> list[str]:
    """A text in lines of at most `width` pixels, broken at blanks where there are any."""
    lines: list[str] = []
    rest = text.strip()
    while rest:
        end = next((end for end in range(len(rest), 1, -1) if font.getlength(rest[:end]) <= width), 1)
        if end < len(rest) and (blank := rest.rfind(" ", 0, end + 1)) > 0:
            end = blank
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return lines


def _drawn(letter: str, font: Font) -> bytes:
    return bytes(font.getmask(letter))


def _escape(letter: str) -> str:
    """A letter by its number, as Python writes it."""
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


def _files(letters: set[str]) -> Iterator[str]:
    """Fonts of this machine that have all of these letters, as fontconfig knows them."""
    if (program := shutil.which("fc-list")) is None:
        return
    numbers = " ".join(f"{ord(letter):x}" for letter in sorted(letters))
    try:
        found = subprocess.run(
            [program, f":charset={numbers}", "file"], capture_output=True, text=True, timeout=FIND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return
    files = [line.strip().removesuffix(":") for line in found.stdout.splitlines()]
    yield from sorted(files, key=lambda path: (any(style in path for style in STYLES), path))
