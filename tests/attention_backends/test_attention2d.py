"""Attention in a grid of ranks, and its gradients, over uneven shards, against one process in float64."""

from typing import Any

import pytest
from cases import attention

UNEVEN = [9, 0, 4, 31, 1, 2]
GRIDS = [(2, 2), (3, 2), (2, 3)]
CASES: list[dict[str, Any]] = [
    {},
    {"key_heads": 2, "batch": 2, "strided": True},
    {"heads": 6, "key_heads": 2, "mask": "keys", "local_mask": True, "k_lengths": [3, 1, 0, 8, 2, 5]},
    {"heads": 3, "key_heads": 3, "batch": 2, "mask": "heads", "local_mask": True},
    {"mask": "additive", "local_mask": True},
    {"mask": "rows", "batch": 2},
    {"mask": "hidden", "batch": 2, "local_mask": True},
    {"mask": "lowest", "batch": 2, "local_mask": True},
    {"mask": "lowest", "batch": 2, "kernel": "_native_math", "key_heads": 2},
    {"mask": "far"},
    {"mask": "rows lowest", "batch": 2},
    {"mask": "causal lowest"},
    {"mask": "lowest", "is_causal": True},
    {"mask": "rows of heads", "batch": 2},
    {"mask": "2d keys", "batch": 3, "local_mask": True},
    {"mask": "2d rows", "batch": 3},
    {"is_causal": True, "batch": 2},
    {"is_causal": True, "mask": "keys"},
    {"scale": 0.3, "size": 6.0},
    {"kernel": "_native_math", "key_heads": 1, "is_causal": True},
    {"value_dim": 5},
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(f"{k}={v}" for k, v in case.items()) or "plain")
def test_equals_float64(ranks, case):
    for ring, ulysses in GRIDS:
        world = ring * ulysses
        keys = case.get("k_lengths", UNEVEN)[:world]
        given = {**case, "q_lengths": UNEVEN[:world], "k_lengths": keys, "algorithm": "attention2d"}
        results = ranks.run(attention, world, ring=ring, ulysses=ulysses, **given)
        # float32 keeps a logit of M to within M 2^-24, which is the relative error of its weight
        limit = max(1e-6, 2**-24 * results[0]["logits"])
        for result in results:
            assert result["finite"]
            assert result["forward"] <= limit
            assert result["from one kernel"] <= max(4e-6, limit)
            assert max(result["dq"], result["dk"], result["dv"]) <= max(2e-5, limit)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_nearly_as_exact_as_one_kernel(ranks, dtype):
    """Partial outputs travel in the model's dtype, so they are rounded once more."""
    lengths = {"q_lengths": [300, 5, 77, 9], "k_lengths": [200, 600, 3, 50]}
    results = ranks.run(attention, 4, ring=2, ulysses=2, dtype=dtype, mask="keys", algorithm="attention2d", **lengths)
    for result in results:
        assert result["finite"]
        assert result["forward"] <= 2 * result["one kernel"]
