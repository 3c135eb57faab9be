"""Attention and its gradients over uneven shards, against single-process attention in float64."""

from typing import Any

import pytest
from cases import attention

UNEVEN = [9, 0, 4, 31, 1, 2]
SHAPES = [(1, 1), (2, 1), (1, 2), (3, 1), (1, 3), (2, 2), (1, 5), (5, 1), (3, 2), (2, 3), (6, 1), (1, 6)]
CASES: list[dict[str, Any]] = [
    {},
    {"schedule": "staged"},
    {"key_heads": 2, "batch": 2, "strided": True},
    {"heads": 6, "key_heads": 2, "schedule": "staged", "mask": "keys", "local_mask": True},
    {"heads": 3, "key_heads": 3, "batch": 2, "mask": "heads", "local_mask": True},
    {"mask": "heads"},
    {"mask": "additive", "local_mask": True, "schedule": "staged"},
    {"mask": "rows", "batch": 2, "schedule": "staged"},
    {"mask": "hidden", "batch": 2, "local_mask": True, "schedule": "staged"},
    {"mask": "hidden", "batch": 2},
    {"mask": "lowest", "batch": 2, "local_mask": True, "schedule": "staged"},
    {"mask": "lowest", "batch": 2, "kernel": "_native_math", "key_heads": 2},
    {"mask": "far", "schedule": "staged"},
    {"mask": "rows lowest", "batch": 2, "schedule": "staged"},
    {"mask": "causal lowest", "schedule": "staged"},
    {"mask": "lowest", "is_causal": True, "schedule": "staged"},
    {"mask": "rows of heads", "batch": 2},
    {"mask": "2d keys", "batch": 3, "local_mask": True},
    {"mask": "2d rows", "batch": 3, "schedule": "staged"},
    {"is_causal": True},
    {"is_causal": True, "schedule": "staged", "batch": 2},
    {"is_causal": True, "schedule": "staged", "mask": "keys"},
    {"scale": 0.3, "size": 6.0, "schedule": "staged"},
    {"kernel": "_native_math", "key_heads": 1, "schedule": "staged", "is_causal": True},
]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(f"{k}={v}" for k, v in case.items()) or "plain")
def test_equals_float64(ranks, case):
    for ring, ulysses in SHAPES:
        world = ring * ulysses
        lengths = UNEVEN[:world]
        results = ranks.run(attention, world, ring=ring, ulysses=ulysses, q_lengths=lengths, k_lengths=lengths, **case)
        # float32 keeps a logit of M to within M 2^-24, which is the relative error of its weight
        limit = max(1e-6, 2**-24 * results[0]["logits"])
        for result in results:
            assert result["finite"]
            assert result["forward"] <= limit
            assert result["from one kernel"] <= 4e-6
            assert max(result["dq"], result["dk"], result["dv"]) <= max(2e-5, limit)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["gather", "staged"])
@pytest.mark.parametrize("mask", [None, "keys", "hidden"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_as_exact_as_one_kernel(ranks, dtype, mask, schedule):
    results = ranks.run(
        attention, 3, ring=3, ulysses=1, q_lengths=[300, 0, 77], k_lengths=[200, 600, 3],
        dtype=dtype, mask=mask, schedule=schedule,
    )  # fmt: skip
    assert all(result["finite"] and result["keeps dtype"] for result in results)
    for result in results:
        assert result["forward"] <= 1.3 * result["one kernel"]
