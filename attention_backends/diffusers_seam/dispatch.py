"""diffusers' attention dispatcher, told to send the attention of enabled models here."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from attention_backends.deferred import Deferred
from attention_backends.kernels import packages
from attention_backends.state import ContextParallel

BACKEND = AttentionBackendName.NATIVE  # an Enum without room for a name of ours: this one is wrapped
BACKENDS: dict[Any, Any] = _AttentionBackendRegistry._backends
ROTARY = ("apply_rotary_emb", "apply_rotary_emb_qwen")  # FLUX's, QwenImage's


def register_packages() -> None:
    """Lend the kernels diffusers' own wrappers of installed attention packages."""
    packages.register("flash", attention_dispatch._flash_attention_forward_op)
    packages.register("_flash_3", attention_dispatch._wrapped_flash_attn_3)
    packages.register("sage", attention_dispatch._sage_attention_forward_op)


def passes_empty(original: Callable[..., torch.Tensor]) -> Any:
    """A rotary embedding reshapes its input with a -1, which is ambiguous for a shard without tokens.

    Of what is put off it is put off, too.
    """

    def rotary(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not torch.compiler.is_compiling() and isinstance(x, Deferred):
            return x.then(lambda x: rotary(x, *args, **kwargs))
        return original(x, *args, **kwargs) if x.numel() else x

    rotary.original = original  # type: ignore[attr-defined]
    return rotary


def dispatcher(original: Callable[..., torch.Tensor]) -> Any:
    """A backend that runs enabled models' attention over all ranks, and `original` for everything else."""

    def dispatch(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
        return_lse: bool = False,
        _parallel_config: Any = None,
    ) -> torch.Tensor:
        if isinstance(_parallel_config, ContextParallel):
            if dropout_p:
                raise ValueError(f"dropout_p={dropout_p}: attention dropout is not supported with context parallelism.")
            if attn_mask is not None and _parallel_config.fit is not None:
                attn_mask = _parallel_config.fit(attn_mask)
            return _parallel_config.attention(query, key, value, attn_mask, is_causal, scale)
        if not query.numel():  # a rank without tokens in front of an attention that stays local
            return torch.empty_like(query)
        return original(
            query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, return_lse, _parallel_config
        )

    dispatch.original = original  # type: ignore[attr-defined]
    return dispatch
