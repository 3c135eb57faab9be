"""merge.py's formula as one Triton kernel: each partial output is read once, the merged one written once.

torch's way reads and writes the float32 accumulator once for each block. Without a GPU, tests compile the kernel for
one and have Triton's interpreter run it.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

ROWS = 16  # query rows of a program


@triton.jit  # type: ignore[untyped-decorator]
def merge_kernel(  # type: ignore[no-untyped-def]
    outs, lses, merged, total, queries, heads, width,
    out_b, out_s, out_h, out_d,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """outs, lses: a tuple of tensors each, (B, S, H, D) with the given strides and dense (B, H, S).

    They are arguments, not a table of addresses in memory: so the compiler knows that they are aligned and reads 16
    bytes at a time, of all blocks at once. It compiles for each number of blocks (0.3 s for 4, 2 s for 33, on a disk
    from then on).
    """
    wide = total.dtype.element_ty
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    batch, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    channels = tl.arange(0, WIDTH)
    real = rows < queries
    at = tl.program_id(1) * queries + rows  # in an LSE

    top = tl.full((ROWS,), -float("inf"), wide)
    for block in tl.static_range(len(lses)):
        top = tl.maximum(top, tl.load(lses[block] + at, mask=real, other=-float("inf")))
    top = tl.where(top == -float("inf"), 0.0, top)  # a row that no block sees: weights exp(-inf) = 0, not NaN
    weight = tl.zeros((ROWS,), wide)
    whole = tl.zeros((ROWS, WIDTH), wide)
    cells = batch.to(tl.int64) * out_b + head * out_h + rows[:, None].to(tl.int64) * out_s + channels[None, :] * out_d
    inside = real[:, None] & (channels[None, :] < width)
    for block in tl.static_range(len(outs)):
        share = tl.exp(tl.load(lses[block] + at, mask=real, other=-float("inf")) - top)
        weight += share
        whole += share[:, None] * tl.load(outs[block] + cells, mask=inside, other=0.0).to(wide)
    seen = weight > 0
    whole = whole / tl.where(seen, weight, 1.0)[:, None]
    tl.store(total + at, tl.where(seen, top + tl.log(tl.where(seen, weight, 1.0)), -float("inf")), mask=real)
    place = ((batch.to(tl.int64) * queries + rows[:, None]) * heads + head) * width + channels[None, :]
    tl.store(merged + place, whole.to(merged.dtype.element_ty), mask=inside)


def merge(outs: Sequence[torch.Tensor], lses: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """out (B, S, H, D), and LSE (B, H, S), as merge.merge."""
    batch, queries, heads, width = outs[0].shape
    lses = [lse.contiguous() for lse in lses]
    if any(out.stride() != outs[0].stride() for out in outs):
        outs = [out.contiguous() for out in outs]
    merged = outs[0].new_empty(outs[0].shape)
    total = torch.empty_like(lses[0])
    grid = (triton.cdiv(queries, ROWS), batch * heads)
    if merged.numel():
        merge_kernel[grid](
            tuple(outs), tuple(lses), merged, total, queries, heads, width, *outs[0].stride(),
            ROWS=ROWS, WIDTH=triton.next_power_of_2(width),
        )  # fmt: skip
    return merged, total
