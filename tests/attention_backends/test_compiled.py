"""A FLUX with context parallelism compiles as one graph with dynamic shapes, and gives what it gives uncompiled."""

from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist

import attention_backends

pytestmark = pytest.mark.slow


def compiled(group: dist.ProcessGroup, arguments: dict[str, Any]) -> list[float]:
    model = tiny.flux(dtype=torch.float32)
    sizes, errors = [(17, 6), (23, 9)], []
    with torch.no_grad():
        expected = [model(**tiny.flux_inputs(*size, dtype=torch.float32))[0] for size in sizes]
        attention_backends.enable(model, process_group=group, **arguments)
        fast = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
        for size, whole in zip(sizes, expected, strict=True):
            errors.append((fast(**tiny.flux_inputs(*size, dtype=torch.float32))[0] - whole).abs().max().item())
        attention_backends.disable(model)
    torch.compiler.reset()
    return errors


@pytest.mark.parametrize("mode", ["ring_anything", "unified_anything"])
def test_full_graph(ranks, mode):
    for errors in ranks.run(compiled, 2, arguments={"ring_degree": 2, mode: True}):
        assert max(errors) < 1e-5
