"""One attention over uneven shards and its gradients, compared with the definition in float64."""

from importlib import import_module
from typing import Any

import torch
import torch.distributed as dist

from attention_backends.layout import Layout
from attention_backends.topology import Topology


def reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    is_causal: bool,
    scale: float | None,
) -> torch.Tensor:
    """The definition in float64; (B, S, H, D). A row that sees no key is 0, as SDPA gives it."""
    group = q.shape[2] // k.shape[2]
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.double()
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    hidden = (scores == -torch.inf).all(-1, keepdim=True)
    weights = scores.masked_fill(hidden, 0.0).softmax(-1).masked_fill(hidden, 0.0)
    return torch.matmul(weights, v).transpose(1, 2)


# What hides a key: False, -inf, or a large finite number, as many models write it.
HIDDEN_BY = {"lowest": None, "far": -10000.0, "rows lowest": None, "rows far": -10000.0, "causal lowest": None}
MASKS = ("keys", "heads", "rows", "rows of heads", "additive", "hidden", "2d keys", "2d rows", *HIDDEN_BY)


def make_mask(
    kind: str | None, batch: int, heads: int, sq: int, skv: int, generator: Any, dtype: torch.dtype
) -> torch.Tensor | None:
    """A mask of one of MASKS in four dimensions; in those named "hidden", "lowest" and "far" rows without a key."""
    if kind is None:
        return None
    rows = sq if kind in ("rows", "rows of heads", "2d rows", "rows lowest", "rows far", "causal lowest") else 1
    entries = 1 if kind == "2d rows" else batch
    keep = torch.rand(entries, heads if kind in ("heads", "rows of heads") else 1, rows, skv, generator=generator) > 0.4
    if kind in ("hidden", "lowest", "far"):
        keep[0] = False
    if kind in ("rows lowest", "rows far"):
        keep[:, :, ::2] = False
    if kind == "causal lowest":
        keep = torch.ones(sq, skv, dtype=torch.bool).tril(-1).expand(keep.shape)
    if kind == "additive":
        return torch.randn(keep.shape, generator=generator).masked_fill(~keep, -torch.inf)
    if kind in HIDDEN_BY:
        lowest = HIDDEN_BY[kind] or torch.finfo(dtype).min
        return torch.zeros(keep.shape, dtype=dtype).masked_fill_(~keep, lowest)
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
    value_dim: int | None = None,
    width: int = 8,
    device: str = "cpu",
    algorithm: str = "unified",
) -> dict[str, float]:
    """Errors of this rank's share on `device`, relative to the largest exact value; the exact ones are the CPU's."""
    rank, generator = dist.get_rank(group), torch.Generator().manual_seed(7)
    topology = Topology(group, rank, ring, ulysses)
    queries, keys = Layout(tuple(q_lengths)), Layout(tuple(k_lengths))

    def random(tokens: int, n: int, width: int = width) -> torch.Tensor:
        return (torch.randn(batch, tokens, n, width, generator=generator) * size).to(getattr(torch, dtype))

    q, k, v = (
        random(queries.total, heads),
        random(keys.total, key_heads),
        random(keys.total, key_heads, value_dim or width),
    )
    weight = random(queries.total, heads, value_dim or width)
    whole_mask = make_mask(mask, batch, heads, queries.total, keys.total, generator, q.dtype)
    exact_q, exact_k, exact_v = (x.double().requires_grad_() for x in (q, k, v))
    expected = reference(exact_q, exact_k, exact_v, whole_mask, is_causal, scale)
    (expected * weight).sum().backward()

    def shard(x: torch.Tensor, layout: Layout) -> torch.Tensor:
        part = x[:, layout.offsets[rank] : layout.offsets[rank + 1]].to(device)
        if strided:
            return part.transpose(1, 2).contiguous().transpose(1, 2).detach().requires_grad_()
        return part.contiguous().detach().requires_grad_()

    mine_q, mine_k, mine_v = shard(q, queries), shard(k, keys), shard(v, keys)
    part = whole_mask
    if part is not None:
        if part.shape[2] > 1:
            part = part[:, :, queries.offsets[rank] : queries.offsets[rank + 1]]
        if local_mask:
            part = part[..., keys.offsets[rank] : keys.offsets[rank + 1]]
        if mask is not None and mask.startswith("2d"):
            part = part[:, 0, 0] if mask == "2d keys" else part[0, 0]
    out = import_module(f"attention_backends.{algorithm}").context_parallel_attention(
        mine_q, mine_k, mine_v, part if part is None else part.to(device), queries=queries, keys=keys,
        topology=topology, is_causal=is_causal, scale=scale, schedule=schedule, kernel=kernel,
    )  # fmt: skip
    (out * shard(weight, queries)).sum().backward()

    def error(x: torch.Tensor | None, y: torch.Tensor | None, layout: Layout) -> float:
        assert x is not None
        assert y is not None
        x = x.cpu()
        part = y[:, layout.offsets[rank] : layout.offsets[rank + 1]]
        return (x.double() - part).abs().max().item() / max(1.0, y.abs().max().item()) if x.numel() else 0.0

    with torch.no_grad():  # what one process gets in this dtype
        bias = whole_mask.to(q.dtype) if whole_mask is not None and whole_mask.is_floating_point() else whole_mask
        if is_causal and bias is not None:
            triangle = torch.ones(queries.total, keys.total, dtype=torch.bool).tril()
            bias = bias & triangle if bias.dtype == torch.bool else bias.masked_fill(~triangle, -torch.inf)
        bias_size = 0.0
        if bias is not None and bias.dtype != torch.bool and bias.numel():
            bias_size = bias.amax(-1).abs().float().nan_to_num(posinf=0.0).clamp(max=1e5).max().item()
        own = torch.nn.functional.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
            bias, is_causal=is_causal and bias is None, scale=scale, enable_gqa=True,
        )  # fmt: skip
    all_keys = k.double().repeat_interleave(heads // key_heads, dim=2)
    logits = torch.einsum("bqhd,bkhd->bhqk", q.double(), all_keys) * (scale or q.shape[-1] ** -0.5)
    return {
        "forward": error(out, expected, queries),
        "from one kernel": error(out, own.transpose(1, 2).double(), queries),
        "one kernel": error(shard(own.transpose(1, 2), queries), expected, queries),
        "dq": error(mine_q.grad, exact_q.grad, queries),
        "dk": error(mine_k.grad, exact_k.grad, keys),
        "dv": error(mine_v.grad, exact_v.grad, keys),
        # A sum of this size keeps what was added to it to within half its last bit; beyond 1e5, nothing.
        "logits": max(logits.abs().max().item() if logits.numel() else 0.0, bias_size if bias_size < 1e5 else 0.0),
        "finite": float(torch.isfinite(out).all()),
        "keeps dtype": float(out.dtype == mine_q.dtype),
    }
