"""Layers with weights in 4 bits compute with the numbers that NF4 has for them, as plain torch finds those."""

import pytest
import torch

from launcher.worker.quantizing import pack

bitsandbytes = pytest.importorskip("bitsandbytes", reason="its package is not installed: pip install '.[bitsandbytes]'")


def nearest(weight: torch.Tensor) -> torch.Tensor:
    """Each number as the nearest of NF4's 16, in blocks of 64 that are scaled by their largest."""
    levels = bitsandbytes.functional.get_4bit_type("nf4", device="cpu").float()
    blocks = weight.float().reshape(-1, 64)
    scales = blocks.abs().amax(1, keepdim=True)
    chosen = ((blocks / scales)[..., None] - levels).abs().argmin(-1)
    return (levels[chosen] * scales).reshape(weight.shape)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("rows", [48, 64, 80, 144, 192, 720])  # of numbers: most of them end within a block
def test_each_row_has_its_own_scales(rows, dtype, limit):
    torch.manual_seed(rows)
    layer = torch.nn.Linear(rows, 64, dtype=dtype)
    layer.weight.data *= torch.linspace(0.1, 10, 64, dtype=dtype)[:, None]  # another block's scale would be seen
    expected = torch.nn.functional.linear(torch.eye(rows), nearest(layer.weight.data), layer.bias.data.float())
    model = torch.nn.ModuleDict({"layer": layer})
    pack(model)
    with torch.no_grad():
        found = model["layer"](torch.eye(rows, dtype=dtype)).float()
    assert isinstance(model["layer"], bitsandbytes.nn.Linear4bit)
    assert (found - expected).norm() < limit * expected.norm()
