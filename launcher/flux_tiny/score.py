"""How well a picture shows what its prompt says: the share of pixels that agree with the ideal pattern.

Each pixel takes the nearest of the named colours. The ideal pattern is laid over the picture at the phase that fits
best, found exactly: pixels are counted by their place in the period, and a correlation tries every shift at once.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from launcher.flux_tiny.patterns import COLOUR_NAMES, PALETTE, level
from launcher.flux_tiny.vocabulary import SCALES, Meaning

CELLS = 256  # shifts tried along each axis: steps of 0.4 pixels for large patterns, 0.2 for small ones


@dataclass(frozen=True)
class Score:
    """agreement: share of pixels in [0, 1] (a plain background gets 0.5 to 0.64); phase: (down, across) in periods, the
    ideal's shift; colours_right: whether the two named colours are the two most frequent ones."""

    agreement: float
    phase: tuple[float, float]
    colours_right: bool


def nearest_colours(pixels: NDArray[np.uint8]) -> Tensor:
    """(rows, columns, 3) sRGB -> (rows, columns) indices of the nearest named colour, by Euclidean distance."""
    flat = torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).reshape(-1, 3)
    return torch.cdist(flat, PALETTE).argmin(1).view(pixels.shape[:2])


def score(pixels: NDArray[np.uint8], meaning: Meaning, origin: tuple[int, int] = (0, 0)) -> Score:
    """Score a picture, or a part of one whose first pixel lies at `origin` (row, column), so that phases compare.

    pixels: (rows, columns, 3) sRGB, 0 to 255, as `numpy.asarray(image)` gives them.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"a picture is (rows, columns, 3) with no length 0, but this one is {pixels.shape}")
    labels = nearest_colours(pixels)
    front, back = COLOUR_NAMES.index(meaning.foreground), COLOUR_NAMES.index(meaning.background)
    period = SCALES[meaning.scale]
    down, across = (
        (((torch.arange(count) + start + 0.5) / period % 1) * CELLS).long() % CELLS
        for count, start in zip(pixels.shape[:2], origin, strict=True)
    )
    cell = (down[:, None] * CELLS + across).flatten()
    votes = (labels == front).double().flatten() - (labels == back).double().flatten()
    folded = torch.bincount(cell, votes, minlength=CELLS * CELLS).view(CELLS, CELLS)
    angle = (torch.arange(CELLS) + 0.5) * (2 * math.pi / CELLS)
    ideal = (level(meaning.pattern, angle[None], angle[:, None]) > 0).double()
    gained = torch.fft.ifft2(torch.fft.fft2(folded).conj() * torch.fft.fft2(ideal)).real
    best = int(gained.argmax())
    agreement = (float(gained.max()) + float((labels == back).sum())) / labels.numel()
    dominant = torch.bincount(labels.flatten(), minlength=len(PALETTE)).topk(2).indices
    return Score(agreement, (best // CELLS / CELLS, best % CELLS / CELLS), set(dominant.tolist()) == {front, back})
