"""Operators of installed attention packages, through wrappers that whoever knows them registers.

diffusers has a wrapper for each of them under a private name; attention_backends.diffusers_seam registers those. So
this room knows nothing of diffusers, and imports go one way.
"""

from collections.abc import Callable
from typing import Any

from attention_backends.kernels.block import Block, Result

_WRAPPERS: dict[str, Callable[..., Any]] = {}


def register(operator: str, wrapper: Callable[..., Any]) -> None:
    """Make `operator` run by `wrapper`, one of diffusers' own: q, k, v (B, S, H, D) in, out and LSE (B, Sq, H) out."""
    _WRAPPERS[operator] = wrapper


def _wrapper(operator: str) -> Callable[..., Any]:
    if operator not in _WRAPPERS:
        raise ValueError(
            f"kernel={operator!r} runs through diffusers: import attention_backends.diffusers_seam first, as enable() "
            "does."
        )
    return _WRAPPERS[operator]


def forward_op(operator: str) -> Callable[[Block], Result]:
    """The operator behind a wrapper that has the signature of diffusers' forward operators."""

    def forward(block: Block) -> Result:
        block = block.expanded()
        q, k, v = (x.transpose(1, 2).contiguous() for x in (block.query, block.key, block.value))
        rest = (None, 0.0, block.is_causal, block.scale, False, True)  # mask, dropout, causal, scale, GQA, LSE
        out, lse = _wrapper(operator)(None, q, k, v, *rest, _save_ctx=False)[:2]
        return out.transpose(1, 2), lse.transpose(1, 2).contiguous()

    return forward


def flash_3(block: Block) -> Result:
    block = block.expanded()
    q, k, v = (x.transpose(1, 2) for x in (block.query, block.key, block.value))
    out, lse = _wrapper("_flash_3")(q, k, v, softmax_scale=block.scale, causal=block.is_causal)
    return out.transpose(1, 2), lse.transpose(1, 2).contiguous()
