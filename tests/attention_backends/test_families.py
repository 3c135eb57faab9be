"""Transformers of other families than FLUX in every mode, against the same model on one process."""

from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist

import attention_backends

RING, ULYSSES = {"ring_degree": 2}, {"ulysses_degree": 2}
BOTH = {"ring_degree": 2, "ulysses_degree": 2}
RING_ANYTHING = {"ring_degree": 3, "ring_anything": True}
ULYSSES_ANYTHING = {"ulysses_degree": 3, "ulysses_anything": True}
UNIFIED_ANYTHING = {"ring_degree": 3, "ulysses_degree": 2, "unified_anything": True}
RING_IN_UNIFIED = {"ring_degree": 3, "unified_anything": True}
SHARES = {"ring_degree": 3, "unified_anything": True, "shares": (1, 3, 2)}
GRID = {"ring_degree": 3, "ulysses_degree": 2, "attention2d": True}
CASES = [
    # family, world, arguments of enable, frames (none for pictures), height and width in tokens, text tokens
    ("wan", 2, RING, (2, 2, 3), 7),
    ("wan", 2, ULYSSES, (1, 2, 3), 7),
    ("wan", 4, BOTH, (2, 2, 3), 7),
    ("wan", 3, RING_ANYTHING, (3, 3, 5), 7),
    ("wan", 3, ULYSSES_ANYTHING, (1, 1, 5), 7),
    ("wan", 6, UNIFIED_ANYTHING, (3, 3, 5), 1),
    ("wan", 6, UNIFIED_ANYTHING, (1, 1, 4), 1),
    ("ltx", 2, RING, (2, 2, 3), 8),
    ("ltx", 2, ULYSSES, (1, 2, 3), 6),
    ("ltx", 4, BOTH, (2, 2, 3), 8),
    ("ltx", 3, ULYSSES_ANYTHING, (3, 3, 5), 7),
    ("ltx", 3, RING_IN_UNIFIED, (3, 3, 5), 45),
    ("ltx", 6, UNIFIED_ANYTHING, (3, 3, 5), 7),
    ("ltx", 6, UNIFIED_ANYTHING, (1, 1, 1), 6),
    ("wan", 6, GRID, (3, 3, 5), 7),
    ("ltx", 6, GRID, (3, 3, 5), 7),
    ("qwen", 6, GRID, (5, 5), 4),
    ("qwen", 3, RING_ANYTHING, (5, 5), 1),
    ("qwen", 3, ULYSSES_ANYTHING, (1, 2), 7),
    ("qwen", 6, UNIFIED_ANYTHING, (1, 1), 4),
    ("wan", 3, SHARES, (3, 3, 5), 7),
    ("ltx", 3, SHARES, (3, 3, 5), 7),
    ("qwen", 3, SHARES, (5, 5), 7),
]


def error(group: dist.ProcessGroup, family: str, arguments: dict[str, Any], size: tuple[int, ...], text: int) -> float:
    model = getattr(tiny, family)()
    more = {"hidden": 0} if family == "qwen" else {}
    inputs = getattr(tiny, f"{family}_inputs")(*size, text, **more)
    with torch.no_grad():
        expected = model(**inputs)[0]
        attention_backends.enable(model, process_group=group, **arguments)
        shared = model(**inputs)[0]
        attention_backends.disable(model)
        assert torch.equal(model(**inputs)[0], expected)
    return (shared - expected).abs().max().item() / expected.abs().max().item()


@pytest.mark.parametrize(("family", "world", "arguments", "size", "text"), CASES)
def test_a_family_equals_one_process(ranks, family, world, arguments, size, text):
    results = ranks.run(error, world, family=family, arguments=arguments, size=size, text=text)
    assert max(results) < 1e-5


def test_ltx_always_has_a_mask_and_ring_anything_says_what_takes_it(ranks):
    for told in ranks.errors(error, 3, family="ltx", arguments=RING_ANYTHING, size=(1, 2, 3), text=7):
        assert told is not None
        assert "unified_anything=True" in told
