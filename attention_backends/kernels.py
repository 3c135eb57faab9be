"""Attention of one rank's queries against one block of keys: picks the operator, hides its hazards, gives out and LSE.

Shapes are diffusers': query (B, Sq, H, D), key (B, Skv, Hkv, D), value (B, Skv, Hkv, Dv), H a multiple of Hkv.
The LSE is (B, H, Sq), natural logarithm, float32 (float64 for float64 inputs), -inf for a row that sees no key; such a
row's out is 0, which is what F.scaled_dot_product_attention gives.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from attention_backends.catalog import KERNELS

Partial = tuple[torch.Tensor, torch.Tensor | None]


def lse_dtype(dtype: torch.dtype) -> torch.dtype:
    """What sums are kept in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class Block(NamedTuple):
    """One attention: (B, H, S, D) views, an additive bias that broadcasts to (B, H, Sq, Skv), and the rest."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    bias: torch.Tensor | None
    is_causal: bool  # query i sees keys 0..i of this block
    scale: float | None

    def expanded(self) -> "Block":
        """With a key head for each query head, for operators without grouped-query attention."""
        group = self.query.shape[1] // self.key.shape[1]
        if group == 1:
            return self
        return self._replace(
            key=self.key.repeat_interleave(group, dim=1), value=self.value.repeat_interleave(group, dim=1)
        )


def choose(kernel: str, query: torch.Tensor, value: torch.Tensor, *, mask: bool, lse: bool) -> str:
    """The operator for a kernel's name. Raises ValueError if that kernel can't do what is asked of it."""
    device, dtype, head_dim = query.device.type, str(query.dtype).removeprefix("torch."), query.shape[-1]
    if kernel in ("auto", "native"):
        if value.shape[-1] != head_dim:
            return "math"
        if device == "cpu":
            return "cpu_flash"
        if device == "cuda" and dtype in ("float16", "bfloat16") and not mask and head_dim % 8 == 0 and head_dim <= 256:
            return "cuda_flash"
        return "cuda_efficient" if device == "cuda" and dtype != "float64" and head_dim % 4 == 0 else "math"
    rules = KERNELS[kernel]
    problems = [
        (device not in rules.devices, f"runs on {' and '.join(rules.devices)}, the tensors are on {device}"),
        (dtype not in rules.dtypes, f"takes {', '.join(rules.dtypes)}, the model is in {dtype}"),
        (0 < rules.head_dim_max < head_dim, f"takes heads of up to {rules.head_dim_max}, the model's have {head_dim}"),
        (
            rules.head_dim_multiple > 0 and head_dim % max(rules.head_dim_multiple, 1) != 0,
            f"takes head sizes that are multiples of {rules.head_dim_multiple}, the model's is {head_dim}",
        ),
        (mask and not rules.mask, "takes no attention mask, and the model passes one"),
        (lse and not rules.lse, "gives no log-sum-exp: use schedule='gather'"),
    ]
    for wrong, why in problems:
        if wrong:
            raise ValueError(f"kernel={kernel!r} {why}. kernel='auto' picks one that fits.")
    if kernel == "_native_flash":
        return "cpu_flash" if device == "cpu" else "cuda_flash"
    return {"_native_math": "math", "_native_efficient": "cuda_efficient", "_native_cudnn": "cuda_cudnn"}.get(
        kernel, kernel
    )


def gives_lse(operator: str) -> bool:
    """Whether keys may be attended block by block."""
    return operator not in KERNELS or KERNELS[operator].lse


def attend(
    operator: str,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention and its log-sum-exp, by the operator that `choose` named."""
    batch, queries, heads, _ = query.shape
    if not (query.numel() and key.numel()):  # on a CPU a length of 0 is SIGFPE: the process dies
        out = query.new_zeros((batch, queries, heads, value.shape[-1]))
        return out, query.new_full((batch, heads, queries), -math.inf, dtype=lse_dtype(query.dtype))
    block = Block(_heads_first(query), _heads_first(key), _heads_first(value), bias, is_causal, scale)
    if operator not in _OPERATORS:
        from attention_backends.kernels_cuda import OPERATORS

        _OPERATORS.update(OPERATORS)
    out, lse = _OPERATORS[operator](block)
    return out.transpose(1, 2), lse


def attend_backward(
    operator: str,
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value for one block of keys, from `out` and `lse` over ALL keys.

    With P = exp(scores - lse) the block's share of the softmax, dV = P^T dO and dS = P * (dO V^T - rowsum(dO * O)):
    exact block by block, which is what lets the keys live elsewhere (https://arxiv.org/abs/2307.08691, section 3.1.2).
    """
    if not (query.numel() and key.numel()):
        return torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
    block = Block(_heads_first(query), _heads_first(key), _heads_first(value), bias, is_causal, scale)
    # exp(-inf - -inf) is NaN; the row's bias is -inf anywhere, so any finite number does.
    lse = lse.masked_fill(lse == -math.inf, 0.0)
    if operator == "cpu_flash":
        grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *(_heads_first(grad), block.query, block.key, block.value, _heads_first(out), lse, 0.0, is_causal),
            attn_mask=None if bias is None else bias.to(query.dtype),
            scale=scale,
        )
    else:
        grads = _math_backward(block, _heads_first(grad), _heads_first(out), lse)
    q, k, v = (x.transpose(1, 2) for x in grads)
    return q, k, v


def _heads_first(x: torch.Tensor) -> torch.Tensor:
    """(B, S, H, D) -> (B, H, S, D), the last dimension dense as every operator wants it."""
    x = x.transpose(1, 2)
    return x if x.stride(-1) == 1 else x.contiguous()


def _cpu_flash(block: Block) -> tuple[torch.Tensor, torch.Tensor]:
    bias = None if block.bias is None else block.bias.to(block.query.dtype)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        block.query, block.key, block.value, 0.0, block.is_causal, attn_mask=bias, scale=block.scale
    )
    if bias is not None:
        # A fully masked row comes back as out = 0, lse = 0.0: a merge would count it as a block of weight exp(0).
        hidden = (bias == -math.inf).all(-1)
        if block.is_causal:
            raise ValueError("a block is causal or has a bias, not both")
        lse = lse.masked_fill(hidden.expand(lse.shape), -math.inf)
    return out, lse


def _scores(block: Block, rows: slice) -> torch.Tensor:
    """Scaled and masked scores of some query rows, in the dtype that sums are kept in."""
    scale = block.query.shape[-1] ** -0.5 if block.scale is None else block.scale
    scores = block.query[:, :, rows] @ block.key.transpose(-2, -1) * scale
    if block.bias is not None:
        scores = scores + (block.bias if block.bias.shape[-2] == 1 else block.bias[:, :, rows])
    if block.is_causal:
        hidden = torch.ones(block.query.shape[2], block.key.shape[2], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(hidden[rows], -math.inf)
    return scores


def _in_sums(block: Block) -> Block:
    compute = lse_dtype(block.query.dtype)
    block = block.expanded()
    return block._replace(query=block.query.to(compute), key=block.key.to(compute), value=block.value.to(compute))


_ROWS = 1024  # query rows at a time: bounds the memory of the definition to rows x keys


def _math(block: Block) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition, in float32 (float64 for float64): runs for every device, dtype and shape."""
    exact = _in_sums(block)
    outs, lses = [], []
    for begin in range(0, block.query.shape[2], _ROWS):
        scores = _scores(exact, slice(begin, begin + _ROWS))
        lse = scores.logsumexp(-1)
        outs.append(torch.exp(scores - lse.masked_fill(lse == -math.inf, 0.0).unsqueeze(-1)) @ exact.value)
        lses.append(lse)
    return torch.cat(outs, dim=2).to(block.query.dtype), torch.cat(lses, dim=2)


def _math_backward(
    block: Block, grad: torch.Tensor, out: torch.Tensor, lse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    exact = _in_sums(block)
    scale = block.query.shape[-1] ** -0.5 if block.scale is None else block.scale
    grad, out = grad.to(exact.query.dtype), out.to(exact.query.dtype)
    d_query = torch.empty_like(exact.query)
    d_key, d_value = torch.zeros_like(exact.key), torch.zeros_like(exact.value)
    for begin in range(0, block.query.shape[2], _ROWS):
        rows = slice(begin, begin + _ROWS)
        weights = torch.exp(_scores(exact, rows) - lse[:, :, rows].unsqueeze(-1))
        d_value += weights.transpose(-2, -1) @ grad[:, :, rows]
        shared = (grad[:, :, rows] * out[:, :, rows]).sum(-1, keepdim=True)
        d_scores = weights * (grad[:, :, rows] @ exact.value.transpose(-2, -1) - shared) * scale
        d_query[:, :, rows] = d_scores @ exact.key
        d_key += d_scores.transpose(-2, -1) @ exact.query[:, :, rows]
    group = block.query.shape[1] // block.key.shape[1]
    d_key, d_value = (x.unflatten(1, (-1, group)).sum(2) for x in (d_key, d_value))
    return d_query.to(block.query.dtype), d_key.to(block.key.dtype), d_value.to(block.value.dtype)


_OPERATORS: dict[str, Callable[[Block], tuple[torch.Tensor, torch.Tensor]]] = {"cpu_flash": _cpu_flash, "math": _math}
