"""Merging attention over blocks of keys, by torch and by the fused kernel."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest
from merging import merged

LIMITS = {"float64": 1e-14, "float32": 1e-6, "bfloat16": 1.6e-2, "float16": 2e-3}


@pytest.fixture(scope="module")
def interpreter():
    """A process in which Triton's interpreter runs kernels on the CPU: it is one from its first import or never."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            yield pool


@pytest.mark.slow
@pytest.mark.parametrize("which", ["torch", "fused"])
@pytest.mark.parametrize("blocks", [(4, 9), (1, 0, 7, 30), (5,)], ids=str)
@pytest.mark.parametrize("dtype", LIMITS)
def test_blocks_merge_to_the_whole(interpreter, which, blocks, dtype):
    found = interpreter.submit(merged, which, dtype, blocks).result()
    assert found["out"] < LIMITS[dtype]
    assert found["lse"] < max(LIMITS[dtype], 1e-6)
    assert found["unseen"] == found["wrongly seen"] == 0


@pytest.mark.slow
def test_the_fused_kernel_takes_any_strides(interpreter):
    for strides in ("mixed", "heads first"):
        assert interpreter.submit(merged, "fused", "float32", (4, 9, 2), strides).result()["out"] < 1e-6
    assert interpreter.submit(merged, "fused", "float32", (4, 9, 2), "none").result() == {"queries": 0}


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from attention_backends.merge_triton import merge_kernel

kinds = [("*bf16",) * 3, ("*fp32",) * 3, "*bf16", "*fp32", *["i32"] * 6, *["constexpr"] * 3]
constants = {"out_d": 1, "ROWS": 16, "WIDTH": 128}
source = ASTSource(merge_kernel, dict(zip(merge_kernel.arg_names, kinds, strict=True)), constexprs=constants)
for capability in (80, 90):
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    print(len(compiled.asm["cubin"]), compiled.asm["ptx"].count("ex2.approx"))
"""


@pytest.mark.slow
def test_the_fused_kernel_compiles_for_a_gpu(tmp_path):
    """Down to machine code, by the compiler and assembler that Triton brings along: needs no GPU."""
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        size, exponentials = map(int, line.split())
        assert size > 1000
        assert exponentials
    assert len(done.stdout.splitlines()) == 2
