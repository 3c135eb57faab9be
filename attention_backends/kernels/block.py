"""What an operator is given and gives back: the leaf of this room, which every other file of it imports."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

Result = tuple[torch.Tensor, torch.Tensor]  # out (B, H, Sq, Dv) and its LSE (B, H, Sq)
Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # of query, key and value, heads first


def lse_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that sums are kept in: float64 for float64, else float32."""
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
        """The same with a key head for each query head, for operators without grouped-query attention."""
        group = self.query.shape[1] // self.key.shape[1]
        if group == 1:
            return self
        return self._replace(
            key=self.key.repeat_interleave(group, dim=1), value=self.value.repeat_interleave(group, dim=1)
        )


def no_nan(out: torch.Tensor, lse: torch.Tensor) -> Result:
    """The result with 0 in fully masked rows: GPU operators give LSE -inf there and may give NaN for out."""
    return out.masked_fill((lse == -math.inf).unsqueeze(-1), 0.0), lse


Forward = Callable[[Block], Result]
# The block, and heads first: the gradient of out, out and its LSE over ALL keys, without -inf.
Backward = Callable[[Block, torch.Tensor, torch.Tensor, torch.Tensor], Gradients]
