"""torch's own operators that need a GPU. None of them was run where this package was written: see the README."""

import math

import torch
import torch.nn.functional as F

from attention_backends.kernels.block import Block, Result, no_nan


def flash(block: Block) -> Result:
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
    lowest = torch.finfo(block.query.dtype).min  # a large finite bias must not become -inf in half precision
    bias = block.bias.clamp(min=lowest).masked_fill(block.bias == -math.inf, -math.inf).to(block.query.dtype)
    padded = F.pad(bias, (0, -keys % 16))
    return padded.expand(batch, heads, queries, -1)[..., :keys]


def efficient(block: Block) -> Result:
    block = block.expanded()
    out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        block.query, block.key, block.value, _aligned_bias(block), True, 0.0, block.is_causal, scale=block.scale
    )
    return no_nan(out, lse[:, :, : block.query.shape[2]])  # the LSE is padded to a multiple of 32, with +inf


def cudnn(block: Block) -> Result:
    block = block.expanded()
    q, k, v = (x.contiguous() for x in (block.query, block.key, block.value))  # wrong results were seen for strides
    out, lse, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(
        q, k, v, _aligned_bias(block), True, 0.0, block.is_causal, False, scale=block.scale
    )
    return no_nan(out, lse.reshape(lse.shape[:3]))  # (B, H, Sq, 1) from torch 2.9 on
