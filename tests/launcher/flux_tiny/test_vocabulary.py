"""What prompts mean."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.flux_tiny import vocabulary
from launcher.flux_tiny.vocabulary import Meaning, every_meaning, read


@pytest.mark.parametrize(
    ("prompt", "meaning"),
    [
        ("red dots on a yellow background", Meaning("dots", "red", "yellow", "large")),
        ("large blue diagonal stripes on white", Meaning("diagonal stripes", "blue", "white", "large")),
        ("green and black checkerboard", Meaning("checkerboard", "green", "black", "large")),
        ("A TURQUOISE background with tiny Pink waves!", Meaning("waves", "pink", "turquoise", "small")),
        ("diagonal red stripes over navy", Meaning("diagonal stripes", "red", "blue", "large")),
        ("thin wavy lines, gold on black", Meaning("waves", "yellow", "black", "small")),
        ("polka dots in white on red", Meaning("dots", "white", "red", "large")),
        ("stripes", Meaning("vertical stripes", "blue", "white", "large")),
        ("a café of cats", Meaning()),
        ("white dots", Meaning("dots", "white", "blue", "large")),
        ("white dots on white", Meaning("dots", "white", "blue", "large")),
        ("", Meaning()),
    ],
)
def test_read(prompt: str, meaning: Meaning) -> None:
    assert read(prompt) == meaning


def test_every_meaning_reads_back() -> None:
    meanings = every_meaning()
    assert len(set(meanings)) == len(meanings) == 6 * 8 * 7 * 2
    assert all(read(m.prompt()) == m for m in meanings)


@given(st.text())
def test_any_text_means_two_different_colours(text: str) -> None:
    meaning = read(text)
    assert meaning.foreground != meaning.background
    assert meaning.pattern in vocabulary.PATTERNS


def test_help_does_not_pay_for_torch() -> None:
    code = "import sys, launcher.flux_tiny.vocabulary; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
