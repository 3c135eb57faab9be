"""diffusers' own context parallelism, to be measured against: single calls for the benchmark, and a whole model.

It runs here wherever ours does, with the same kernels, so that what differs is how ranks exchange and merge.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from diffusers import ContextParallelConfig, attention_backend
from diffusers.hooks import context_parallel as hooks
from diffusers.models import _modeling_parallel as parallel
from diffusers.models import attention_dispatch
from torch.distributed.device_mesh import DeviceMesh

from attention_backends import exchange, kernels
from attention_backends.catalog import MODES
from attention_backends.diffusers_seam.undo import set_attribute
from attention_backends.topology import Topology


def _config(topology: Topology) -> Any:
    """What diffusers' attention reads of its own configuration, without the accelerator that making one needs."""
    mesh = SimpleNamespace(get_group=lambda: topology.group)
    return SimpleNamespace(
        context_parallel_config=SimpleNamespace(
            _ring_mesh=mesh,
            _ulysses_mesh=mesh,
            _ring_local_rank=topology.rank,
            ring_degree=topology.world_size,
            convert_to_fp32=True,
        )
    )


class Operator:
    """A forward operator for diffusers' classes: (B, S, H, D), with an LSE (B, S, H) if asked for one, on any device.

    diffusers' default gives no LSE at all, so that its ring fails at the first forward.
    """

    def __init__(self, kernel: str = "auto") -> None:
        self.kernel, self.operator = kernel, ""

    def __call__(self, _: Any, query: Any, key: Any, value: Any, mask: Any = None, *rest: Any, **__: Any) -> Any:
        """Attention as diffusers calls it: ctx, query, key, value, mask, dropout, is_causal, scale, gqa, return_lse."""
        scale, lse_too = rest[2], rest[4]
        bias = mask
        if mask is not None and mask.dtype == torch.bool:
            bias = torch.zeros(mask.shape, dtype=query.dtype, device=mask.device).masked_fill_(~mask, float("-inf"))
        self.operator = kernels.choose(self.kernel, query, value, mask=mask is not None, lse=lse_too)
        out, lse = kernels.attend(self.operator, query, key, value, bias, scale=scale)
        return (out, lse.transpose(1, 2)) if lse_too else out


def calls(topology: Topology, qkv: list[torch.Tensor]) -> dict[str, Callable[[], Any]]:
    """diffusers' modes for any length, over the ranks of `topology`, by name."""
    warnings.filterwarnings("ignore")  # torch announces a renaming of what diffusers calls
    rest = (None, 0.0, False, None, False, False, Operator(), None, _config(topology))
    return {
        "ring_anything": lambda: attention_dispatch.TemplatedRingAnythingAttention.apply(*qkv, *rest),
        "ulysses_anything": lambda: attention_dispatch.TemplatedUlyssesAnythingAttention.apply(*qkv, *rest),
    }


def _gather(x: torch.Tensor, dim: int, group: Any) -> torch.Tensor:
    """diffusers' uneven all_gather, which gloo refuses."""
    group = group.get_group() if hasattr(group, "get_group") else group
    lengths = [length for (length,) in exchange.exchange_lengths([x.shape[dim]], group, x.device)]
    return exchange.unshard(x, dim, lengths, group)


@contextlib.contextmanager
def enabled(model: Any, mode: str, mesh: DeviceMesh, kernel: str = "auto") -> Iterator[None]:
    """Have all ranks share a model's sequence by diffusers' own attention and hooks while the block runs.

    It does what `enable_parallelism` does, but for what keeps that from a CPU: see `Operator` and `_gather`.

    Args:
        mode: a row of catalog.MODES that diffusers has. mesh: ranks along "ring" and "ulysses", all of them.
        kernel: a name of catalog.KERNELS.

    Raises:
        ValueError: the model's class brings no plan, or diffusers refuses the degrees.
    """
    if getattr(model, "_cp_plan", None) is None:
        raise ValueError(f"{type(model).__name__} brings no _cp_plan, without which diffusers shares nothing.")
    ring, ulysses = mesh.shape
    config = ContextParallelConfig(ring_degree=ring, ulysses_degree=ulysses, **MODES[mode].flags)
    whole = parallel.ParallelConfig(context_parallel_config=config)
    whole.setup(dist.get_rank(), dist.get_world_size(), torch.device(mesh.device_type), mesh=mesh)
    processors = [
        one for part in model.modules() if hasattr(one := getattr(part, "processor", None), "_parallel_config")
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # torch announces a renaming of what diffusers calls
        stack.enter_context(attention_backend("native"))
        stack.callback(set_attribute(attention_dispatch, "_native_attention_forward_op", Operator(kernel)))
        if mesh.device_type == "cpu":
            stack.callback(set_attribute(hooks, "_all_gather_anything", _gather))
        hooks.apply_context_parallel(model, config, model._cp_plan)
        stack.callback(hooks.remove_context_parallel, model, model._cp_plan)
        for processor in processors:
            stack.callback(set_attribute(processor, "_parallel_config", whole))
        yield


def operator() -> str:
    """What a model's attention was computed with last, by `enabled`; "" outside of its block."""
    return getattr(attention_dispatch._native_attention_forward_op, "operator", "")
