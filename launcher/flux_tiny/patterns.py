"""The ideal pictures: where each pattern is foreground, exactly, at any phase, size and resolution."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from launcher.flux_tiny.vocabulary import COLOURS, PATTERNS, SCALES, Meaning

PATTERN_NAMES, COLOUR_NAMES, SCALE_NAMES = list(PATTERNS), list(COLOURS), list(SCALES)
PERIODS = torch.tensor(list(SCALES.values()), dtype=torch.float64)
PALETTE = torch.tensor(list(COLOURS.values())).float() / 127.5 - 1  # (colours, 3) in [-1, 1]
CELLS = 1024  # one period is tabulated on CELLS x CELLS points
DOT_RADIUS = 0.34  # of a period: 36% of the area
WAVE_HEIGHT = 1.0  # radians that a wave swings to either side


def level(pattern: str, u: Tensor, v: Tensor) -> Tensor:
    """Positive where the pattern is foreground; u runs right and v down, in radians of the pattern's period."""
    if pattern == "horizontal stripes":
        return v.sin() + 0 * u
    if pattern == "vertical stripes":
        return u.sin() + 0 * v
    if pattern == "diagonal stripes":
        return (u + v).sin()
    if pattern == "checkerboard":
        return u.sin() * v.sin()
    if pattern == "waves":
        return (v + WAVE_HEIGHT * u.sin()).sin()
    if pattern == "dots":
        across, down = ((x / (2 * math.pi) + 0.5) % 1 - 0.5 for x in (u, v))
        return DOT_RADIUS**2 - across**2 - down**2
    raise ValueError(f"pattern {pattern!r} is not one of {', '.join(PATTERNS)}")


@lru_cache
def coverage_tables(box: int) -> Tensor:
    """(patterns, scales, CELLS, CELLS): the share of foreground in a square of `box` pixels centred at each phase."""
    angle = (torch.arange(CELLS) + 0.5) * (2 * math.pi / CELLS)
    masks = torch.stack([(level(p, angle[None], angle[:, None]) > 0).float() for p in PATTERN_NAMES])
    # A box filter on a periodic function is a product with sinc in the frequency domain.
    widths = torch.sinc(torch.fft.fftfreq(CELLS, 1 / CELLS) * (box / PERIODS[:, None])).float()
    spectrum = torch.fft.fft2(masks)[:, None] * widths[:, None, :] * widths[:, :, None]
    shares: Tensor = torch.fft.ifft2(spectrum).real.clamp(0, 1)
    return shares


def coverage(pattern: Tensor, scale: Tensor, phase: Tensor, rows: int, columns: int, box: int) -> Tensor:
    """The share of foreground in each square of a grid of squares of `box` pixels.

    pattern, scale: (n,) indices; phase: (n, 2), down and right, in periods. Returns (n, rows, columns) in [0, 1].
    """

    def cells(count: int, shift: Tensor) -> Tensor:
        centres = (torch.arange(count, dtype=torch.float64) + 0.5) * box
        return (((centres / PERIODS[scale][:, None] + shift[:, None]) % 1) * CELLS).long() % CELLS

    down, across = cells(rows, phase[:, 0]), cells(columns, phase[:, 1])
    table = coverage_tables(box)
    return table[pattern[:, None, None], scale[:, None, None], down[:, :, None], across[:, None, :]]


def paint(share: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
    """(n, rows, columns) of shares and (n,) colour indices -> (n, 3, rows, columns) in [-1, 1]."""
    front, back = PALETTE[foreground][:, :, None, None], PALETTE[background][:, :, None, None]
    return back + share[:, None] * (front - back)


def indices(meanings: list[Meaning]) -> Tensor:
    """(n, 4): pattern, foreground, background and scale of each, as indices."""
    return torch.tensor(
        [
            (
                PATTERN_NAMES.index(m.pattern),
                COLOUR_NAMES.index(m.foreground),
                COLOUR_NAMES.index(m.background),
                SCALE_NAMES.index(m.scale),
            )
            for m in meanings
        ]
    )
