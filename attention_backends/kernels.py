"""Attention of one rank's queries against one block of keys: picks the operator, hides its hazards, gives out and LSE.

Shapes here are diffusers': query (B, Sq, H, D), key (B, Skv, Hkv, D), value (B, Skv, Hkv, Dv), H a multiple of Hkv.
The LSE is (B, H, Sq), natural logarithm, float32 (float64 for float64 inputs), -inf for a row that sees no key.
"""

import math

import torch


def lse_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    kernel: str = "auto",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention and its log-sum-exp.

    bias: additive, float, broadcastable to (B, H, Sq, Skv); -inf hides a key. is_causal: query i sees keys 0..i.
    scale: None is 1/sqrt(D).
    """
    batch, queries, heads, _ = query.shape
    if not (query.numel() and key.numel()):  # aten's CPU kernel dies of SIGFPE on a length of 0
        out = query.new_zeros((batch, queries, heads, value.shape[-1]))
        return out, query.new_full((batch, heads, queries), -math.inf, dtype=lse_dtype(query.dtype))
    if query.device.type == "cpu" and value.shape[-1] == query.shape[-1] and kernel != "_native_math":
        return _cpu_flash(query, key, value, bias, is_causal, scale)
    return _math(query, key, value, bias, is_causal, scale)


def _cpu_flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    is_causal: bool,
    scale: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    if bias is not None:
        bias = bias.to(query.dtype)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, is_causal, attn_mask=bias, scale=scale
    )
    if bias is not None:
        # A fully masked row comes back as out = 0, lse = 0.0: a merge would count it as a block of weight exp(0).
        hidden = (bias == -math.inf).all(-1)
        lse = lse.masked_fill(hidden.expand(lse.shape), -math.inf)
    return out.transpose(1, 2), lse


def _math(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    is_causal: bool,
    scale: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition, in float32 (float64 for float64): the reference for every other kernel, and what always runs."""
    compute = lse_dtype(query.dtype)
    group = query.shape[2] // key.shape[2]
    q, k, v = (x.transpose(1, 2).to(compute) for x in (query, key, value))
    if group > 1:
        k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = q @ k.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    if is_causal:
        visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~visible, -math.inf)
    lse = scores.logsumexp(-1)
    weights = torch.exp(scores - lse.masked_fill(lse == -math.inf, 0.0).unsqueeze(-1))
    return (weights @ v).to(query.dtype).transpose(1, 2), lse
