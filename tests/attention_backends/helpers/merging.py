"""Attention over blocks of keys, merged by torch or by the fused kernel, against all keys at once in float64."""

import math

import torch

from attention_backends import merge
from attention_backends.kernels import attend


def merged(which: str, dtype: str, blocks: tuple[int, ...], strides: str = "alike") -> dict[str, float]:
    """Errors of a merge of 37 queries over the blocks. Query 3 sees no key, query 5 those of the last block only.

    which: "torch" or "fused" (needs TRITON_INTERPRET=1 from the start of the process). strides: of the partial outputs,
    "alike", "mixed", "heads first" or "none" (without queries).
    """
    generator, total = torch.Generator().manual_seed(0), sum(blocks)
    q, k, v = (torch.randn(2, n, 3, 24, generator=generator).to(getattr(torch, dtype)) for n in (37, total, total))
    bias = torch.zeros(1, 1, 37, total)
    bias[:, :, 3] = -math.inf
    bias[:, :, 5, : total - blocks[-1]] = -math.inf
    outs, lses, begin = [], [], 0
    for size in blocks:
        out, lse = attend(
            "math", q, k[:, begin : begin + size], v[:, begin : begin + size], bias[..., begin : begin + size]
        )
        if strides == "heads first" or (strides == "mixed" and not begin):
            out = out.transpose(1, 2).contiguous().transpose(1, 2)
        outs.append(out[:, :0] if strides == "none" else out)
        lses.append(lse[..., :0] if strides == "none" else lse)
        begin += size
    exact, exact_lse = attend("math", q.double(), k.double(), v.double(), bias.double())
    if which == "torch":
        out, lse = merge.merge(outs, lses)
    else:
        from attention_backends import merge_triton

        out, lse = merge_triton.merge(outs, lses)
    assert out.dtype == q.dtype
    if strides == "none":
        return {"queries": out.shape[1]}
    seen = exact_lse.isfinite()
    return {
        "out": (out.double() - exact).abs().max().item(),
        "lse": (lse.double() - exact_lse)[seen].abs().max().item(),
        "unseen": out[:, 3].abs().max().item(),
        "wrongly seen": float((lse.isfinite() != seen).sum()),
    }
