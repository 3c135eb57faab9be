"""The definition of attention, in float32 (float64 for float64): for every device, dtype and shape."""

import math
from collections.abc import Callable

import torch

from attention_backends.kernels.block import Block, Gradients, Result, lse_dtype

_ROWS = 1024  # query rows at a time: bounds the memory of the definition to rows x keys


def forward(block: Block, above: torch.Tensor | None = None) -> Result:
    """Attention. above: for each row (B or 1, H or 1, Sq or 1) the number from which its LSE is counted, if not 0."""
    exact = _in_sums(block)
    outs, lses = [], []
    for begin in range(0, block.query.shape[2], _ROWS):
        rows = slice(begin, begin + _ROWS)
        weights, lse = _softmax(_scores(exact, rows), _of(above, rows))
        outs.append(weights @ exact.value)
        lses.append(lse)
    return torch.cat(outs, dim=2).to(block.query.dtype), torch.cat(lses, dim=2)


def backward(block: Block, grad: torch.Tensor, out: torch.Tensor, _: torch.Tensor) -> Gradients:
    """Gradients, where the block has all keys that its queries see."""
    return _gradients(block, grad, out, lambda scores, _: _softmax(scores)[0])


def backward_part(
    block: Block, grad: torch.Tensor, out: torch.Tensor, lse: torch.Tensor, above: torch.Tensor | None
) -> Gradients:
    """The same where it has some of them: out and lse are over all, and lse is counted from `above`."""

    def weights(scores: torch.Tensor, rows: slice) -> torch.Tensor:
        base = _of(above, rows)
        scores = scores if base is None else scores - base
        return torch.exp(scores - lse[:, :, rows, None])

    return _gradients(block, grad, out, weights)


def _of(above: torch.Tensor | None, rows: slice) -> torch.Tensor | None:
    """Of what each row counts from, (..., rows or 1, 1)."""
    if above is None:
        return None
    return (above if above.shape[2] == 1 else above[:, :, rows])[..., None]


def _gradients(
    block: Block, grad: torch.Tensor, out: torch.Tensor, weigh: Callable[[torch.Tensor, slice], torch.Tensor]
) -> Gradients:
    exact = _in_sums(block)
    scale = block.query.shape[-1] ** -0.5 if block.scale is None else block.scale
    grad, out = grad.to(exact.query.dtype), out.to(exact.query.dtype)
    d_query = torch.empty_like(exact.query)
    d_key, d_value = torch.zeros_like(exact.key), torch.zeros_like(exact.value)
    for begin in range(0, block.query.shape[2], _ROWS):
        rows = slice(begin, begin + _ROWS)
        weights = weigh(_scores(exact, rows), rows)
        d_value += weights.transpose(-2, -1) @ grad[:, :, rows]
        shared = (grad[:, :, rows] * out[:, :, rows]).sum(-1, keepdim=True)
        d_scores = weights * (grad[:, :, rows] @ exact.value.transpose(-2, -1) - shared) * scale
        d_query[:, :, rows] = d_scores @ exact.key
        d_key += d_scores.transpose(-2, -1) @ exact.query[:, :, rows]
    d_key, d_value = _to_groups(d_key, block.key), _to_groups(d_value, block.value)
    return d_query.to(block.query.dtype), d_key.to(block.key.dtype), d_value.to(block.value.dtype)


def _in_sums(block: Block) -> Block:
    compute = lse_dtype(block.query.dtype)
    block = block.expanded()
    return block._replace(query=block.query.to(compute), key=block.key.to(compute), value=block.value.to(compute))


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


def _softmax(scores: torch.Tensor, above: torch.Tensor | None = None) -> Result:
    """Weights that sum to 1, or are 0 in a row without keys, and the LSE, counted from `above`.

    Not exp(scores - lse): in a row that a mask hides by a large finite number instead of -inf, the LSE is that number,
    too large to hold the logarithm of the sum beside it.
    """
    top = scores.amax(-1, keepdim=True)
    top = top.masked_fill(top == -math.inf, 0.0)
    weights = torch.exp(scores - top)
    total = weights.sum(-1, keepdim=True)
    counted = top if above is None else top - above
    return weights / total.masked_fill(total == 0, 1.0), (counted + total.log()).squeeze(-1)


def _to_groups(grad: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Gradients of a key head for each query head, summed over the query heads that share one."""
    batch, heads, tokens, width = like.shape
    return grad.reshape(batch, heads, -1, tokens, width).sum(2)
