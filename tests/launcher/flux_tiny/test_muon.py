"""The optimizer's orthogonal steps."""

import pytest
import torch

from launcher.flux_tiny.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(3, 20, 20), (2, 12, 50), (2, 50, 12)])
def test_orthogonalise_keeps_directions_and_levels_singular_values(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = orthogonalise(matrices)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ found @ v.mT
    # The iteration trades exactness for speed: singular values end between about 0.7 and 1.2.
    levels = inside.diagonal(dim1=1, dim2=2)
    assert levels.min() > 0.5
    assert levels.max() < 1.3
    assert (inside - torch.diag_embed(levels)).abs().max() < 1e-3


def test_a_step_has_the_size_of_adamws() -> None:
    weights = [torch.zeros(24, 16, requires_grad=True) for _ in range(2)]
    for weight, scale in zip(weights, (1e-3, 1e3), strict=True):
        weight.grad = scale * torch.randn(24, 16, generator=torch.Generator().manual_seed(2))
    Muon(weights, lr=0.1).step()
    for weight in weights:
        assert weight.square().mean().sqrt().item() == pytest.approx(0.2 * 0.1, rel=0.2)
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-3, atol=1e-5)  # whatever the gradient's size
