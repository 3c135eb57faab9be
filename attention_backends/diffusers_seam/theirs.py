"""diffusers' own context-parallel attention as calls, for the benchmark to be measured against."""

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.models import attention_dispatch

from attention_backends import kernels
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


def _operator(ctx: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    """A forward operator for diffusers' classes that gives an LSE, (B, S, H), on any device."""
    out, lse = kernels.attend(kernels.choose("auto", query, value, mask=False, lse=True), query, key, value)
    return (out, lse.transpose(1, 2)) if args[5] else out


def calls(topology: Topology, qkv: list[torch.Tensor]) -> dict[str, Callable[[], Any]]:
    """diffusers' modes for any length, over the ranks of `topology`, by name."""
    warnings.filterwarnings("ignore")  # torch announces a renaming of what diffusers calls
    rest = (None, 0.0, False, None, False, False, _operator, None, _config(topology))
    return {
        "ring_anything": lambda: attention_dispatch.TemplatedRingAnythingAttention.apply(*qkv, *rest),
        "ulysses_anything": lambda: attention_dispatch.TemplatedUlyssesAnythingAttention.apply(*qkv, *rest),
    }
