"""Attention and its gradients over uneven shards, against single-process attention in float64."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attention_backends.layout import Layout
from attention_backends.topology import Topology
from attention_backends.unified_anything import context_parallel_attention


def reference(q, k, v, mask, is_causal, scale) -> torch.Tensor:
    """The definition in float64; (B, S, H, D). A row that sees no key is 0, as SDPA gives it."""
    group = q.shape[2] // k.shape[2]
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.double()
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    return (scores.softmax(-1).nan_to_num(0.0) @ v).transpose(1, 2)


def make_mask(kind: str | None, batch: int, heads: int, sq: int, skv: int, generator: Any) -> torch.Tensor | None:
    if kind is None:
        return None
    rows = sq if kind == "rows" else 1
    keep = torch.rand(batch, heads if kind == "heads" else 1, rows, skv, generator=generator) > 0.4
    if kind == "hidden":
        keep[0] = False
    if kind == "additive":
        return torch.randn(keep.shape, generator=generator).masked_fill(~keep, -torch.inf)
    return keep


def attention(
    group: dist.ProcessGroup,
    ring: int,
    ulysses: int,
    q_lengths: list[int],
    k_lengths: list[int],
    heads: int = 4,
    key_heads: int = 4,
    batch: int = 1,
    dtype: str = "float32",
    mask: str | None = None,
    local_mask: bool = False,
    is_causal: bool = False,
    scale: float | None = None,
    size: float = 1.0,
    strided: bool = False,
    schedule: str = "gather",
    kernel: str = "auto",
) -> dict[str, float]:
    rank, generator = dist.get_rank(group), torch.Generator().manual_seed(7)
    topology = Topology(group, rank, ring, ulysses)
    queries, keys = Layout(tuple(q_lengths)), Layout(tuple(k_lengths))

    def random(tokens: int, n: int) -> torch.Tensor:
        return (torch.randn(batch, tokens, n, 8, generator=generator) * size).to(getattr(torch, dtype))

    q, k, v = random(queries.total, heads), random(keys.total, key_heads), random(keys.total, key_heads)
    weight = random(queries.total, heads)
    whole_mask = make_mask(mask, batch, heads, queries.total, keys.total, generator)
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    expected = reference(*exact, whole_mask, is_causal, scale)
    (expected * weight).sum().backward()

    def shard(x: torch.Tensor, layout: Layout) -> torch.Tensor:
        part = x[:, layout.offsets[rank] : layout.offsets[rank + 1]]
        if strided:
            return part.transpose(1, 2).contiguous().transpose(1, 2).detach().requires_grad_()
        return part.contiguous().detach().requires_grad_()

    mine = [shard(q, queries), shard(k, keys), shard(v, keys)]
    part = whole_mask
    if part is not None:
        if part.shape[2] > 1:
            part = part[:, :, queries.offsets[rank] : queries.offsets[rank + 1]]
        if local_mask:
            part = part[..., keys.offsets[rank] : keys.offsets[rank + 1]]
    out = context_parallel_attention(
        *mine, part, queries=queries, keys=keys, topology=topology,
        is_causal=is_causal, scale=scale, schedule=schedule, kernel=kernel,
    )  # fmt: skip
    (out * shard(weight, queries)).sum().backward()

    def error(x: torch.Tensor, y: torch.Tensor, layout: Layout) -> float:
        part = y[:, layout.offsets[rank] : layout.offsets[rank + 1]]
        return (x.double() - part).abs().max().item() / max(1.0, y.abs().max().item()) if x.numel() else 0.0

    with torch.no_grad():
        own = torch.nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), enable_gqa=True)
    return {
        "forward": error(out, expected, queries),
        "one kernel": (own.transpose(1, 2).double() - expected).abs().max().item() if own.numel() else 0.0,
        "dq": error(mine[0].grad, exact[0].grad, queries),
        "dk": error(mine[1].grad, exact[1].grad, keys),
        "dv": error(mine[2].grad, exact[2].grad, keys),
        "finite": float(torch.isfinite(out).all()),
    }


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
    {"is_causal": True},
    {"is_causal": True, "schedule": "staged", "batch": 2},
    {"is_causal": True, "schedule": "staged", "mask": "keys"},
    {"scale": 0.3, "size": 6.0, "schedule": "staged"},
    {"kernel": "_native_math", "key_heads": 1, "schedule": "staged", "is_causal": True},
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(f"{k}={v}" for k, v in case.items()) or "plain")
def test_equals_float64(ranks, case):
    for ring, ulysses in SHAPES:
        world = ring * ulysses
        lengths = UNEVEN[:world]
        for result in ranks.run(
            attention, world, ring=ring, ulysses=ulysses, q_lengths=lengths, k_lengths=lengths, **case
        ):
            assert result["finite"]
            assert result["forward"] <= (1e-6 if case.get("size", 1) == 1 else 1e-5)  # logits of 100 cost two digits
            assert max(result["dq"], result["dk"], result["dv"]) <= 2e-5


@pytest.mark.parametrize("schedule", ["gather", "staged"])
def test_bfloat16_is_as_exact_as_one_kernel(ranks, schedule):
    results = ranks.run(
        attention, 3, ring=3, ulysses=1, q_lengths=[300, 5, 77], k_lengths=[200, 600, 3],
        dtype="bfloat16", schedule=schedule,
    )  # fmt: skip
    assert max(r["forward"] for r in results) <= 1.3 * results[0]["one kernel"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
def test_any_lengths(ranks, data):
    ring, ulysses = data.draw(st.sampled_from(SHAPES))
    lengths = st.lists(st.integers(0, 12), min_size=ring * ulysses, max_size=ring * ulysses)
    key_heads, group = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    results = ranks.run(
        attention,
        ring * ulysses,
        ring=ring,
        ulysses=ulysses,
        q_lengths=data.draw(lengths),
        k_lengths=data.draw(lengths),
        heads=key_heads * group,
        key_heads=key_heads,
        dtype="float64",
        mask=data.draw(st.sampled_from([None, "keys", "heads", "rows", "additive", "hidden"])),
        is_causal=data.draw(st.booleans()),
        schedule=data.draw(st.sampled_from(["gather", "staged"])),
    )
    for result in results:
        assert max(result[name] for name in ("forward", "dq", "dk", "dv")) < 1e-12
