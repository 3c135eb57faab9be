"""Ideal patterns against points counted one by one."""

import pytest
import torch
import torch.nn.functional as F

from launcher.flux_tiny import patterns
from launcher.flux_tiny.vocabulary import PATTERNS, SCALES


@pytest.mark.slow
@pytest.mark.parametrize("name", PATTERNS)
def test_coverage_is_the_mean_of_fine_samples(name: str) -> None:
    """8-pixel squares, 32 x 32 points each."""
    phase = torch.tensor([[0.31, 0.77]], dtype=torch.float64)
    for scale, period in enumerate(SCALES.values()):
        found = patterns.coverage(torch.tensor([list(PATTERNS).index(name)]), torch.tensor([scale]), phase, 16, 12, 8)[
            0
        ]
        down, across = (
            2 * torch.pi * ((torch.arange(n * 256, dtype=torch.float64) + 0.5) / 32 / period + shift)
            for n, shift in ((16, 0.31), (12, 0.77))
        )
        points = (patterns.level(name, across[None], down[:, None]) > 0).float()
        expected = F.avg_pool2d(points[None], 256)[0]
        assert (found - expected).abs().max() < 0.03
        assert (found - expected).abs().mean() < 0.005


def test_unknown_pattern_is_named() -> None:
    with pytest.raises(ValueError, match="'plaid' is not one of horizontal stripes"):
        patterns.level("plaid", torch.zeros(1), torch.zeros(1))
