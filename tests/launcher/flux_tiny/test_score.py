"""Ideal pictures and their score."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from launcher.flux_tiny import patterns
from launcher.flux_tiny.score import score
from launcher.flux_tiny.vocabulary import COLOURS, PATTERNS, SCALES, Meaning


def ideal(meaning: Meaning, rows: int, columns: int, phase: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.uint8]:
    pattern, front, back, scale = patterns.indices([meaning]).T
    share = patterns.coverage(pattern, scale, torch.tensor([phase], dtype=torch.float64), rows, columns, 1)
    picture = patterns.paint(share, front, back)[0].permute(1, 2, 0)
    return ((picture + 1) * 127.5).round().clamp(0, 255).byte().numpy()


ALL = [Meaning(p, "red", "turquoise", s) for p in PATTERNS for s in SCALES]


@pytest.mark.slow
@pytest.mark.parametrize("meaning", ALL, ids=Meaning.prompt)
def test_ideal_scores_high_at_any_phase_and_plain_low(meaning: Meaning) -> None:
    found = score(ideal(meaning, 300, 340, (0.37, 0.81)), meaning)
    assert found.agreement > 0.98
    assert found.colours_right
    plain = np.full((300, 340, 3), COLOURS["turquoise"], np.uint8)
    assert 0.45 < score(plain, meaning).agreement < 0.7
    assert not score(plain, meaning).colours_right


@pytest.mark.slow
def test_score_tells_patterns_scales_and_colours_apart() -> None:
    for shown in ALL:
        pixels = ideal(shown, 160, 200, (0.2, 0.6))
        for asked in ALL:
            if asked != shown:
                assert score(pixels, asked).agreement < 0.9, (shown, asked)
        swapped = Meaning(shown.pattern, "pink", "yellow", shown.scale)
        assert not score(pixels, swapped).colours_right
        assert score(pixels, swapped).agreement < 0.1


@pytest.mark.slow
def test_score_finds_the_phase_and_a_break_in_it() -> None:
    meaning = Meaning("dots", "black", "white", "large")
    top, bottom = ideal(meaning, 192, 384, (0.25, 0.0)), ideal(meaning, 384, 384, (0.75, 0.5))[192:]
    broken = np.concatenate([top, bottom])
    assert score(broken, meaning).agreement < 0.85
    assert score(top, meaning).agreement > 0.97
    part = score(bottom, meaning, origin=(192, 0))
    assert part.agreement > 0.97
    assert part.phase == pytest.approx((0.75, 0.5), abs=0.02)


@pytest.mark.parametrize("shape", [(0, 8, 3), (8, 8), (8, 8, 4)])
def test_score_refuses_what_is_no_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rows, columns, 3"):
        score(np.zeros(shape, np.uint8), Meaning())
