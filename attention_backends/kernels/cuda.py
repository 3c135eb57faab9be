"""torch's own operators that need a GPU; tests/gpu runs each of them against float64."""

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
    width = block.query.shape[-1]
    scale = width**-0.5 if block.scale is None else block.scale
    # No kernel takes heads of other than whole 16 bytes; channels of zeros change neither scores nor the others.
    more = -width % (16 // block.query.element_size())
    q, k, v = (F.pad(x, (0, more)) if more else x for x in (block.query, block.key, block.value))
    out, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        q, k, v, _aligned_bias(block), True, 0.0, block.is_causal, scale=scale
    )
    out, lse = out[..., :width], lse[:, :, : block.query.shape[2]]  # the LSE is padded to a multiple of 32, with +inf
    if block.bias is None:
        return out, lse
    # A fully masked row comes back with LSE 0.0, as on a CPU: a merge would count it as a block of weight exp(0).
    return no_nan(out, lse.masked_fill((block.bias == -math.inf).all(-1).expand(lse.shape), -math.inf))


def cudnn(block: Block) -> Result:
    block = block.expanded()
    out, lse, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(
        *(block.query, block.key, block.value, _aligned_bias(block), True, 0.0, block.is_causal, False),
        scale=block.scale,
    )
    lse = lse.reshape(lse.shape[:3])  # (B, H, Sq, 1) from torch 2.9 on
    return (out, lse) if block.bias is None else no_nan(out, lse)  # a pass over out, where a row may see no key
