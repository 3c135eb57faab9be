"""Attention of one rank's queries against one block of keys: picks the operator, hides its hazards, gives out and LSE.

Shapes are diffusers': query (B, Sq, H, D), key (B, Skv, Hkv, D), value (B, Skv, Hkv, Dv), H a multiple of Hkv.
The LSE is (B, H, Sq), natural logarithm, float32 (float64 for float64 inputs), -inf for a row that sees no key; such a
row's out is 0, which is what F.scaled_dot_product_attention gives.
"""

from math import inf
from typing import NamedTuple

import torch

from attention_backends.kernels import cpu, cuda, math, packages
from attention_backends.kernels.block import Backward, Block, Forward, lse_dtype
from attention_backends.kernels.choose import choose, gives_lse

__all__ = ["OPERATORS", "Operator", "attend", "attend_backward", "choose", "gives_lse", "lse_dtype"]


class Operator(NamedTuple):
    forward: Forward
    backward: Backward = math.backward


# Every operator, by the name that a row of catalog.KERNELS or `choose` gives it.
OPERATORS: dict[str, Operator] = {
    "math": Operator(math.forward),
    "cpu_flash": Operator(cpu.forward, cpu.backward),
    "cuda_flash": Operator(cuda.flash),
    "cuda_efficient": Operator(cuda.efficient),
    "cuda_cudnn": Operator(cuda.cudnn),
    "flash": Operator(packages.forward_op("flash")),
    "_flash_3": Operator(packages.flash_3),
    "sage": Operator(packages.forward_op("sage")),
}


def attend(
    operator: str,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    above: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention and its log-sum-exp, by the operator that `choose` named.

    above: for each row (B or 1, H or 1, Sq or 1) the number from which its LSE is counted, so that it can be merged
        with others where a mask hides the row by a number that would drown its sum. By the definition then.
    """
    batch, queries, heads, _ = query.shape
    if not (query.numel() and key.numel()):  # on a CPU a length of 0 is SIGFPE: the process dies
        out = query.new_zeros((batch, queries, heads, value.shape[-1]))
        return out, query.new_full((batch, heads, queries), -inf, dtype=lse_dtype(query.dtype))
    block = Block(_heads_first(query), _heads_first(key), _heads_first(value), bias, is_causal, scale)
    out, lse = OPERATORS[operator].forward(block) if above is None else math.forward(block, above)
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
    part: bool = False,
    above: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value, where `key` and `value` are ALL keys that the queries see.

    part: they are some of them; out and lse are over all nevertheless. above: as in `attend`.

    With P = softmax(scores), dV = P^T dO and dS = P * (dO V^T - rowsum(dO * O)), a part of the rows at a time
    (https://arxiv.org/abs/2307.08691, section 3.1.2).
    """
    if not (query.numel() and key.numel()):
        return torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
    block = Block(_heads_first(query), _heads_first(key), _heads_first(value), bias, is_causal, scale)
    # exp(-inf - -inf) is NaN; the row's bias is -inf anywhere, so any finite number does.
    lse = lse.masked_fill(lse == -inf, 0.0)
    given = block, _heads_first(grad), _heads_first(out), lse
    if above is not None or (part and operator != "cpu_flash"):  # the definition sums over the keys that it is given
        grads = math.backward_part(*given, above)
    else:
        grads = OPERATORS[operator].backward(*given)
    q, k, v = (x.transpose(1, 2) for x in grads)
    return q, k, v


def _heads_first(x: torch.Tensor) -> torch.Tensor:
    """(B, S, H, D) -> (B, H, S, D), the last dimension dense as every operator wants it."""
    x = x.transpose(1, 2)
    return x if x.stride(-1) == 1 else x.contiguous()
