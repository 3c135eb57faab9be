"""Operators that need a GPU. None of them was run where this package was written: see the README."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from attention_backends.kernels import Block

Result = tuple[torch.Tensor, torch.Tensor]


def _flash(block: Block) -> Result:
    block = block.expanded()
    out, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
        block.query, block.key, block.value, 0.0, block.is_causal, False, scale=block.scale
    )
    return out, lse


def _aligned_bias(block: Block) -> torch.Tensor | None:
    """The bias expanded to (B, H, Sq, Skv) with rows that start at multiples of 16 elements, as the operators ask."""
    if block.bias is None:
        return None
    batch, heads, queries, _ = block.query.shape
    keys = block.key.shape[2]
    padded = F.pad(block.bias.to(block.query.dtype), (0, -keys % 16))
    return padded.expand(batch, heads, queries, -1)[..., :keys]


def _no_nan(out: torch.Tensor, lse: torch.Tensor) -> Result:
    """A fully masked row: these operators give LSE -inf and may give NaN for out; SDPA on one process gives 0."""
    return out.masked_fill((lse == -math.inf).unsqueeze(-1), 0.0), lse


def _efficient(block: Block) -> Result:
    block = block.expanded()
    out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        block.query, block.key, block.value, _aligned_bias(block), True, 0.0, block.is_causal, scale=block.scale
    )
    return _no_nan(out, lse[:, :, : block.query.shape[2]])  # the LSE is padded to a multiple of 32, with +inf


def _cudnn(block: Block) -> Result:
    block = block.expanded()
    q, k, v = (x.contiguous() for x in (block.query, block.key, block.value))  # wrong results were seen for strides
    out, lse, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(
        q, k, v, _aligned_bias(block), True, 0.0, block.is_causal, False, scale=block.scale
    )
    return _no_nan(out, lse.reshape(lse.shape[:3]))  # (B, H, Sq, 1) from torch 2.9 on


def _registered(name: str) -> Callable[[Block], Result]:
    """One of diffusers' own forward operators, which take (B, S, H, D)."""

    def operator(block: Block) -> Result:
        from attention_backends.diffusers_seam import forward_operator

        block = block.expanded()
        call: Any = forward_operator(name)
        q, k, v = (x.transpose(1, 2).contiguous() for x in (block.query, block.key, block.value))
        out, lse = call(None, q, k, v, None, 0.0, block.is_causal, block.scale, False, True, _save_ctx=False)[:2]
        return out.transpose(1, 2), lse.transpose(1, 2).contiguous()  # their LSE is (B, Sq, H)

    return operator


def _flash_3(block: Block) -> Result:
    from attention_backends.diffusers_seam import forward_operator

    block = block.expanded()
    q, k, v = (x.transpose(1, 2) for x in (block.query, block.key, block.value))
    out, lse = forward_operator("_wrapped_flash_attn_3")(q, k, v, softmax_scale=block.scale, causal=block.is_causal)
    return out.transpose(1, 2), lse.transpose(1, 2).contiguous()


OPERATORS: dict[str, Callable[[Block], Result]] = {
    "cuda_flash": _flash,
    "cuda_efficient": _efficient,
    "cuda_cudnn": _cudnn,
    "flash": _registered("_flash_attention_forward_op"),
    "_flash_3": _flash_3,
    "sage": _registered("_sage_attention_forward_op"),
}
