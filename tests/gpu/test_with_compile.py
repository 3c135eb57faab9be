"""A FLUX transformer on two ranks, compiled with CUDA graphs."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("triton")

from ranks import Ranks  # noqa: E402


def compiled(group: Any, arguments: dict[str, Any]) -> list[float]:
    """Errors of the compiled transformer against the same one uncompiled, for two sizes."""
    import tiny

    import attention_backends

    with torch.no_grad():
        transformer = tiny.flux(dtype=torch.float32).cuda()
        sizes, found = [(17, 6), (23, 9)], []

        def given(size: tuple[int, int]) -> dict[str, Any]:
            inputs = tiny.flux_inputs(*size, dtype=torch.float32)
            return {name: x.cuda() if isinstance(x, torch.Tensor) else x for name, x in inputs.items()}

        expected = [transformer(**given(size))[0] for size in sizes]
        attention_backends.enable(transformer, process_group=group, **arguments)
        fast = torch.compile(transformer, fullgraph=True, dynamic=True, mode="reduce-overhead")
        for size, whole in zip(sizes, expected, strict=True):
            for _ in range(3):  # CUDA graphs are recorded at the second call and replayed at the third
                found.append((fast(**given(size))[0] - whole).abs().max().item())
        attention_backends.disable(transformer)
    torch.compiler.reset()
    return found


def beside(folder: Path) -> list[list[float]]:
    """The errors of two ranks."""
    pool = Ranks(2, "spawn")
    try:
        return pool.run(compiled, 2, arguments={"mode": "ring_anything", "ring_degree": 2})
    finally:
        pool.stop()


def test_compiled_with_cuda_graphs(beside, check):
    """Graphs are cut around the exchanges, which no CUDA graph can hold."""
    check("compiled float32, CUDA graphs: out", max(max(each) for each in beside), 1e-5)
