"""Which operator runs for a kernel's name: the catalog's rows hold its limits, and this file checks them."""

import torch

from attention_backends.catalog import KERNELS


def choose(kernel: str, query: torch.Tensor, value: torch.Tensor, *, mask: bool, lse: bool) -> str:
    """The operator for a kernel's name.

    Args:
        query, value: (B, S, H, D); only their device, dtype and head size are looked at.
        mask: a bias or a causal mask must be taken. lse: keys are attended block by block, so an LSE is needed.

    Raises:
        ValueError: the kernel can't do what is asked of it.
    """
    device, dtype, head_dim = query.device.type, str(query.dtype).removeprefix("torch."), query.shape[-1]
    rules = KERNELS[kernel]
    if not rules.operator:
        return _best(device, dtype, head_dim, value.shape[-1], mask)
    problems = [
        (device not in rules.devices, f"runs on {' and '.join(rules.devices)}; the tensors are on {device}"),
        (dtype not in rules.dtypes, f"takes {', '.join(rules.dtypes)}; the model is in {dtype}"),
        (0 < rules.head_dim_max < head_dim, f"takes heads of up to {rules.head_dim_max}; the model's have {head_dim}"),
        (
            rules.head_dim_multiple > 0 and head_dim % max(rules.head_dim_multiple, 1) != 0,
            f"takes head sizes that are multiples of {rules.head_dim_multiple}; the model's is {head_dim}",
        ),
        (mask and not rules.mask, "takes no attention mask, and the model passes one"),
        (lse and not rules.lse, "gives no log-sum-exp; use schedule='gather'"),
    ]
    for wrong, why in problems:
        if wrong:
            raise ValueError(f"kernel={kernel!r} {why}. kernel='auto' picks one that fits.")
    return rules.operator


def _best(device: str, dtype: str, head_dim: int, value_dim: int, mask: bool) -> str:
    if value_dim != head_dim:
        return "math"
    if device == "cpu":
        return "cpu_flash"
    if device == "cuda" and dtype in ("float16", "bfloat16") and not mask and head_dim % 8 == 0 and head_dim <= 256:
        return "cuda_flash"
    return "cuda_efficient" if device == "cuda" and dtype != "float64" and head_dim % 4 == 0 else "math"


def gives_lse(operator: str) -> bool:
    """Whether keys may be attended block by block."""
    return all(kernel.lse for kernel in KERNELS.values() if kernel.operator == operator)
