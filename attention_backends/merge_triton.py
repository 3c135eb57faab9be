"""merge.py's formula as one Triton kernel: each partial output is read once, the merged one written once.

torch's way reads and writes the float32 accumulator once for each block. Without a GPU, tests compile the kernel for
one and have Triton's interpreter run it.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

ROWS = 16  # query rows of a program
_TYPES = {
    torch.float64: tl.float64,
    torch.float32: tl.float32,
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
}


@triton.jit  # type: ignore[untyped-decorator]
def merge_kernel(  # type: ignore[no-untyped-def]
    outs, lses, merged, total, blocks, queries, heads, width,
    out_b, out_s, out_h, out_d,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, OUT: tl.constexpr, LSE: tl.constexpr,
):  # fmt: skip
    """outs, lses: addresses of `blocks` tensors each, (B, S, H, D) with the given strides and dense (B, H, S)."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    batch, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    channels = tl.arange(0, WIDTH)
    real = rows < queries
    at = tl.program_id(1) * queries + rows  # in an LSE

    top = tl.full((ROWS,), -float("inf"), LSE)
    for block in range(blocks):
        lse = tl.load(tl.load(lses + block).to(tl.pointer_type(LSE)) + at, mask=real, other=-float("inf"))
        top = tl.maximum(top, lse)
    top = tl.where(top == -float("inf"), 0.0, top)  # a row that no block sees: weights exp(-inf) = 0, not NaN
    weight = tl.zeros((ROWS,), LSE)
    whole = tl.zeros((ROWS, WIDTH), LSE)
    cells = batch.to(tl.int64) * out_b + head * out_h + rows[:, None].to(tl.int64) * out_s + channels[None, :] * out_d
    inside = real[:, None] & (channels[None, :] < width)
    for block in range(blocks):
        lse = tl.load(tl.load(lses + block).to(tl.pointer_type(LSE)) + at, mask=real, other=-float("inf"))
        out = tl.load(tl.load(outs + block).to(tl.pointer_type(OUT)) + cells, mask=inside, other=0.0)
        share = tl.exp(lse - top)
        weight += share
        whole += share[:, None] * out.to(LSE)
    seen = weight > 0
    whole = whole / tl.where(seen, weight, 1.0)[:, None]
    tl.store(total + at, tl.where(seen, top + tl.log(tl.where(seen, weight, 1.0)), -float("inf")), mask=real)
    place = ((batch.to(tl.int64) * queries + rows[:, None]) * heads + head) * width + channels[None, :]
    tl.store(merged + place, whole.to(OUT), mask=inside)


def merge(outs: Sequence[torch.Tensor], lses: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """out (B, S, H, D), and LSE (B, H, S), as merge.merge."""
    batch, queries, heads, width = outs[0].shape
    lses = [lse.contiguous() for lse in lses]
    if any(out.stride() != outs[0].stride() for out in outs):
        outs = [out.contiguous() for out in outs]
    merged = outs[0].new_empty(outs[0].shape)
    total = torch.empty_like(lses[0])
    # Pinned, so that the copy waits its turn on the device and the host does not wait for it.
    addresses = torch.tensor([[x.data_ptr() for x in xs] for xs in (outs, lses)], pin_memory=merged.is_cuda)
    addresses = addresses.to(merged.device, non_blocking=True)
    grid = (triton.cdiv(queries, ROWS), batch * heads)
    if merged.numel():
        merge_kernel[grid](
            *addresses, merged, total, len(outs), queries, heads, width, *outs[0].stride(),
            ROWS=ROWS, WIDTH=triton.next_power_of_2(width), OUT=_TYPES[merged.dtype], LSE=_TYPES[total.dtype],
        )  # fmt: skip
    return merged, total
