"""Which operator runs for a kernel's name: the catalog's rows hold its limits, and this file checks them."""

import functools

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
        return _best(query, value.shape[-1], mask)
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


def _best(query: torch.Tensor, value_dim: int, mask: bool) -> str:
    head_dim, half = query.shape[-1], query.dtype in (torch.float16, torch.bfloat16)
    if value_dim != head_dim:
        return "math"
    if query.device.type == "cpu":
        return "cpu_flash"
    if query.device.type != "cuda":
        return "math"
    if half and head_dim % 8 == 0 and head_dim <= 128 and _prefers_cudnn(query.device):
        return "cuda_cudnn"
    if half and head_dim % 8 == 0 and head_dim <= 256 and not mask:
        return "cuda_flash"
    return "cuda_efficient" if query.dtype != torch.float64 else "math"


@functools.cache
def _prefers_cudnn(device: torch.device) -> bool:
    """Where torch's own scaled_dot_product_attention prefers cuDNN: on Hopper and Blackwell, twice as fast there."""
    version = torch.backends.cudnn.version() or 0
    return torch.cuda.get_device_capability(device) in ((9, 0), (10, 0)) and version >= 90900


def gives_lse(operator: str) -> bool:
    """Whether keys may be attended block by block."""
    return all(kernel.lse for kernel in KERNELS.values() if kernel.operator == operator)
