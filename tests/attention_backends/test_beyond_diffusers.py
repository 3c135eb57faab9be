"""What diffusers 0.42.1 computes wrongly, refuses or crashes on, and what is right here: a case each."""

from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist
from cases import attention

import attention_backends

EVEN, UNEVEN = [8, 8], [9, 0, 4, 31]
CASES: dict[str, dict[str, Any]] = {
    "ring, a mask that differs between ranks: there rank 0's own mask is put on every rank's keys": {
        "ring": 2, "ulysses": 1, "lengths": EVEN, "mask": "keys", "local_mask": True, "schedule": "staged",
    },
    "ring, causal: there every block gets the triangle of the first": {
        "ring": 2, "ulysses": 1, "lengths": EVEN, "is_causal": True, "schedule": "staged",
    },
    "ulysses_anything, a mask and uneven shards: there the mask is cut as if they were even": {
        "ring": 1, "ulysses": 4, "lengths": UNEVEN, "mask": "keys", "local_mask": True,
    },
    "unified, a mask: there a crash": {"ring": 2, "ulysses": 2, "lengths": [8] * 4, "mask": "keys"},
    "ulysses, a mask for each head: there it keeps all heads beside a shard of them, a crash": {
        "ring": 1, "ulysses": 2, "lengths": EVEN, "mask": "heads",
    },
    "a ring over uneven shards with a mask: there refused": {
        "ring": 4, "ulysses": 1, "lengths": UNEVEN, "mask": "keys", "local_mask": True,
    },
    "fewer tokens than ranks: there an assertion": {"ring": 4, "ulysses": 1, "lengths": [1, 1, 0, 0]},
    "fewer tokens than ranks, by heads: there an assertion": {"ring": 1, "ulysses": 4, "lengths": [1, 1, 0, 0]},
    "more ranks than heads: there an assertion": {"ring": 1, "ulysses": 5, "lengths": [3, 3, 2, 2, 2]},
    "a ring over uneven shards, grouped queries: there unsupported": {
        "ring": 4, "ulysses": 1, "lengths": UNEVEN, "key_heads": 2,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_right_here(ranks, name):
    case = dict(CASES[name])
    lengths = case.pop("lengths")
    for result in ranks.run(attention, len(lengths), q_lengths=lengths, k_lengths=lengths, **case):
        assert result["forward"] <= 1e-6
        assert max(result["dq"], result["dk"], result["dv"]) <= 2e-5  # there: no gradient in the "anything" modes


def native_ring(group: dist.ProcessGroup) -> float:
    model, inputs = tiny.flux(), tiny.flux_inputs(16, 6)
    model.set_attention_backend("native")
    with torch.no_grad():
        expected = model(**inputs)[0]
        attention_backends.enable(model, process_group=group, ring_degree=2, kernel="native")
        return (model(**inputs)[0] - expected).abs().max().item()


def test_the_native_kernel_goes_with_a_ring(ranks):
    """There it gives no log-sum-exp, and `ring` on the default backend fails at the first forward."""
    assert max(ranks.run(native_ring, 2)) < 1e-10
