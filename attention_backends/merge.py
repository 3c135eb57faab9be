"""Merging attention over disjoint blocks of keys into attention over all of them.

With out_i and lse_i of block i,  L = log sum_i exp(lse_i)  and  out = sum_i exp(lse_i - L) out_i,  because its
denominator is the sum of the blocks' denominators, exp(L) = sum_i exp(lse_i) (section 2.2 of
https://arxiv.org/abs/2205.14135). One merge at the end, in float32: merging hop by hop costs a pass each, and merging
in bfloat16 is several times less exact.
"""

import math
from collections.abc import Sequence
from importlib.util import find_spec

import torch

from attention_backends.kernels.block import lse_dtype


def merge(outs: Sequence[torch.Tensor], lses: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """out (B, Sq, H, D) in the blocks' dtype, and LSE (B, H, Sq); a row that no block sees is out 0, LSE -inf."""
    if len(outs) == 1:
        return outs[0], lses[0]
    if outs[0].is_cuda and find_spec("triton") is not None:
        from attention_backends import merge_triton

        return merge_triton.merge(outs, lses)
    stacked = torch.stack(list(lses))
    total = stacked.logsumexp(0)
    # A row hidden in every block has total = -inf, and -inf - -inf is NaN: give it weight exp(-inf) = 0.
    weights = torch.exp(stacked - total.masked_fill(total == -math.inf, 0.0)).transpose(-1, -2).unsqueeze(-1)
    compute = lse_dtype(outs[0].dtype)
    merged = outs[0].to(compute) * weights[0]
    for out, weight in zip(outs[1:], weights[1:], strict=True):
        merged.addcmul_(out.to(compute), weight)
    return merged.to(outs[0].dtype), total
