"""diffusers' own context parallelism on the same cases, as far as a CPU lets it run.

Three things that keep it from a CPU at all are supplied, none of which a GPU would do otherwise: a device mesh, a
native attention with a log-sum-exp, and an uneven all_gather for gloo.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from diffusers import ContextParallelConfig
from diffusers.hooks import context_parallel as hooks
from diffusers.models import _modeling_parallel as parallel
from diffusers.models import attention_dispatch as dispatch
from exact import alone, difference, model_of
from inputs import Size

from attention_backends import exchange, kernels
from attention_backends.catalog import MODES


def _attend(_: Any, query: Any, key: Any, value: Any, mask: Any = None, *rest: Any, **__: Any) -> Any:
    """A forward operator for diffusers' classes: (B, S, H, D), with a log-sum-exp if it is asked for one."""
    scale, wants_lse = rest[2], rest[4]
    bias = mask
    if mask is not None and mask.dtype == torch.bool:
        bias = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, float("-inf"))
    out, lse = kernels.attend("math", query, key, value, bias, scale=scale)
    return (out, lse.transpose(1, 2)) if wants_lse else out


def _gather(x: torch.Tensor, dim: int, group: Any) -> torch.Tensor:
    group = group.get_group() if hasattr(group, "get_group") else group
    lengths = [n for (n,) in exchange.exchange_lengths([x.shape[dim]], group, x.device)]
    return exchange.unshard(x, dim, lengths, group)


@contextlib.contextmanager
def enabled(model: Any, arguments: dict[str, Any]) -> Iterator[None]:
    """diffusers' `enable_parallelism` on all ranks, taken back at the end."""
    degrees = {key: arguments[key] for key in ("ring_degree", "ulysses_degree")}
    config = ContextParallelConfig(**degrees, **MODES[arguments["mode"]].flags)
    mesh = dist.device_mesh.init_device_mesh("cpu", config.mesh_shape, mesh_dim_names=config.mesh_dim_names)
    whole = parallel.ParallelConfig(context_parallel_config=config)
    whole.setup(dist.get_rank(), dist.get_world_size(), torch.device("cpu"), mesh=mesh)
    processors = [p for m in model.modules() if hasattr(p := getattr(m, "processor", None), "_parallel_config")]
    patched = [
        (module, name) for module in (dispatch, hooks) for name in ("_all_gather_anything",) if hasattr(module, name)
    ]
    before = [getattr(module, name) for module, name in patched]
    operator = dispatch._native_attention_forward_op
    hooks.apply_context_parallel(model, config, model._cp_plan)
    try:
        for processor in processors:
            processor._parallel_config = whole
        for module, name in patched:
            setattr(module, name, _gather)
        dispatch._native_attention_forward_op = _attend
        yield
    finally:
        dispatch._native_attention_forward_op = operator
        for (module, name), old in zip(patched, before, strict=True):
            setattr(module, name, old)
        for processor in processors:
            processor._parallel_config = None
        hooks.remove_context_parallel(model, model._cp_plan)


def errors(_: dist.ProcessGroup, name: str, cases: list[tuple[dict[str, Any], Size]]) -> list[float | str]:
    """The error of each case, or what was raised."""
    found: list[float | str] = []
    for arguments, size in cases:
        try:
            alone(name, size)  # before anything is enabled
            with enabled(model_of(name), arguments):
                found.append(difference(name, size))
        except Exception as problem:  # told to the one who asked
            found.append(f"{type(problem).__name__}: {problem}")
            model_of.cache_clear()  # hooks may be left on it
    return found
