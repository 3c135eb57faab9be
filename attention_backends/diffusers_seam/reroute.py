"""torch's own scaled_dot_product_attention, sent over all ranks.

Half of diffusers' transformers do not ask its dispatcher but call torch. A function mode around an attention module's
forward sees that call, whoever makes it, so no processor is replaced.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from attention_backends.state import ContextParallel

Fit = Callable[[torch.Tensor], torch.Tensor]
Seen = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]
_SDPA = torch.nn.functional.scaled_dot_product_attention


def _unflatten(tensor: torch.Tensor, dim: int, sizes: Sequence[int]) -> torch.Tensor:
    """The same as Tensor.unflatten, whose super() torch.compile can't trace under a function mode."""
    place = dim % tensor.ndim
    return tensor.reshape(*tensor.shape[:place], *sizes, *tensor.shape[place + 1 :])


class Reroute(TorchFunctionMode):
    """While it is on, attention goes over the ranks of `state`; with None it stays on this rank.

    fit: what is done to a mask (B, H, Sq, Skv) before. seen: told of what stays, (B, H, S, D) each.
    """

    def __init__(self, state: ContextParallel | None, fit: Fit | None = None, seen: Seen | None = None) -> None:
        super().__init__()
        self.state, self.fit, self.seen = state, fit, seen
        self.outer: Fit | None = None

    def __enter__(self) -> "Reroute":
        if self.state is not None:
            self.outer, self.state.fit = self.state.fit, self.fit
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *told: Any) -> None:
        super().__exit__(*told)  # type: ignore[no-untyped-call]
        if self.state is not None:
            self.state.fit = self.outer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _SDPA:
            return self._attend(*args, **(kwargs or {}))
        if func is torch.Tensor.unflatten and torch.compiler.is_compiling():
            return _unflatten(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        if self.state is None:
            if self.seen is not None and not torch.compiler.is_compiling():
                self.seen(query, key, value)
            if not query.numel():  # a rank without tokens: some operators can't take them
                return query.new_empty((*query.shape[:-1], value.shape[-1]))
            return _SDPA(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        if dropout_p:
            raise ValueError(f"dropout_p={dropout_p}: attention dropout is not supported with context parallelism.")
        if query.ndim != 4:
            raise ValueError(
                f"scaled_dot_product_attention of {query.ndim} dimensions, {tuple(query.shape)}: (B, H, S, D) is "
                "shared over ranks; if this attention needs no other rank, name it in the plan's local."
            )
        if attn_mask is not None:  # torch lines a mask up with (B, H, Sq, Skv) from the right
            attn_mask = attn_mask[(None,) * (4 - attn_mask.ndim)]
            attn_mask = self.fit(attn_mask) if self.fit is not None else attn_mask
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        return self.state.attention(q, k, v, attn_mask, is_causal, scale).transpose(1, 2)
