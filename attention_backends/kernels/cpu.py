"""torch's flash attention for CPUs, which gives an LSE; as fast as F.scaled_dot_product_attention."""

import math

import torch

from attention_backends.kernels.block import Block, Gradients, Result


def forward(block: Block) -> Result:
    bias = block.bias  # in float32 for half precision too, where a large finite bias would become -inf
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


def backward(block: Block, grad: torch.Tensor, out: torch.Tensor, lse: torch.Tensor) -> Gradients:
    query, key, value = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        *(grad, block.query, block.key, block.value, out, lse, 0.0, block.is_causal),
        attn_mask=block.bias,
        scale=block.scale,
    )
    return query, key, value
