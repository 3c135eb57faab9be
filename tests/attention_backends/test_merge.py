"""Merging attention over blocks of keys, by torch and by the fused kernel, against all keys at once in float64."""

import importlib
import math
import os
import subprocess
import sys

import pytest
import torch

from attention_backends import merge
from attention_backends.kernels import attend


@pytest.fixture
def fused(monkeypatch):
    """The Triton kernel, run by Triton's interpreter: real code on CPU tensors."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.delitem(sys.modules, "attention_backends.merge_triton", raising=False)
    yield importlib.import_module("attention_backends.merge_triton").merge
    sys.modules.pop("attention_backends.merge_triton")


def partials(dtype: torch.dtype, blocks: tuple[int, ...]) -> tuple[list, list, torch.Tensor, torch.Tensor]:
    """Attention to each block; the same to all keys in float64. Row 3 sees no key, row 5 only the last block."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, 3, 24, generator=generator).to(dtype) for n in (37, sum(blocks), sum(blocks)))
    bias = torch.zeros(1, 1, 37, sum(blocks))
    bias[:, :, 3] = -math.inf
    bias[:, :, 5, : sum(blocks[:-1])] = -math.inf
    outs, lses, begin = [], [], 0
    for size in blocks:
        span = slice(begin, begin + size)
        out, lse = attend("math", q, k[:, span], v[:, span], bias[..., span])
        outs.append(out)
        lses.append(lse)
        begin += size
    exact = attend("math", q.double(), k.double(), v.double(), bias.double())
    return outs, lses, *exact


@pytest.mark.parametrize("which", ["torch", "fused"])
@pytest.mark.parametrize("blocks", [(4, 9), (1, 0, 7, 30), (5,)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_blocks_merge_to_the_whole(fused, which, blocks, dtype):
    outs, lses, exact, exact_lse = partials(dtype, blocks)
    out, lse = (fused if which == "fused" else merge.merge)(outs, lses)
    assert out.dtype == dtype
    assert out.shape == exact.shape
    error = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}[dtype]
    assert (out.double() - exact).abs().max() < error
    seen = exact_lse.isfinite()
    assert torch.equal(lse.isfinite(), seen)
    assert (lse.double() - exact_lse)[seen].abs().max() < max(error, 1e-6)
    assert out[:, 3].abs().max() == 0


def test_the_fused_kernel_takes_any_strides(fused):
    outs, lses, exact, _ = partials(torch.float32, (4, 9, 2))
    outs[1] = outs[1].transpose(1, 2).contiguous().transpose(1, 2)
    assert (fused(outs, lses)[0].double() - exact).abs().max() < 1e-6
    outs = [out.transpose(1, 2).contiguous().transpose(1, 2) for out in outs]
    assert (fused(outs, lses)[0].double() - exact).abs().max() < 1e-6
    assert fused([out[:, :0] for out in outs], [lse[..., :0] for lse in lses])[0].shape == (2, 0, 3, 24)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from attention_backends.merge_triton import merge_kernel, tl

kinds = ["*i64", "*i64", "*bf16", "*fp32", *["i32"] * 8, *["constexpr"] * 4]
constants = {"ROWS": 16, "WIDTH": 128, "OUT": tl.bfloat16, "LSE": tl.float32}
source = ASTSource(merge_kernel, dict(zip(merge_kernel.arg_names, kinds, strict=True)), constexprs=constants)
for capability in (80, 90):
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    print(len(compiled.asm["cubin"]), compiled.asm["ptx"].count("ex2.approx"))
"""


def test_the_fused_kernel_compiles_for_a_gpu(tmp_path):
    """Down to machine code, by the compiler and assembler that Triton brings along: needs no GPU."""
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_DEFAULT_FP_FUSION": "1"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        size, exponentials = map(int, line.split())
        assert size > 1000
        assert exponentials
    assert len(done.stdout.splitlines()) == 2
