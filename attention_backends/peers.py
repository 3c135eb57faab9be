"""What else shares attention between ranks, to be measured beside ours where it is installed.

cache-dit (https://github.com/vipshop/cache-dit) has a ring and an Ulysses of its own, which are given our kernels;
yunchang (https://github.com/feifeibear/long-context-attention) is the attention of xDiT, whose package itself refuses a
machine without an accelerator. Names inside them may change: a version that lacks one is left out, and said so.

    pip install --no-deps cache-dit yunchang
"""

import importlib
from collections.abc import Callable
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import torch

from attention_backends.diffusers_seam.theirs import Operator
from attention_backends.layout import Layout
from attention_backends.topology import Topology

Calls = dict[str, Callable[[], Any]]
EVEN = "takes equal shares of tokens only"


def _cache_dit(topology: Topology, layout: Layout, qkv: list[torch.Tensor]) -> tuple[Calls, dict[str, str]]:
    core = "cache_dit.distributed.core"
    templated: Any = importlib.import_module(f"{core}._templated_ring")
    if not qkv[0].is_cuda:  # its merge is a Triton kernel, and plain torch where that can't be imported
        templated.fused_merge_attn_states = None
    ring = templated.RingAttention
    ulysses = importlib.import_module(f"{core}._templated_ulysses").UlyssesAttention
    mesh = SimpleNamespace(get_group=lambda: topology.group)
    config = SimpleNamespace(
        _ring_mesh=mesh, _ulysses_mesh=mesh, convert_to_fp32=True, ulysses_anything=True, ulysses_float8=False
    )
    options = (None, 0.0, False, None, False, False)  # mask, dropout, causal, scale, GQA, LSE
    calls: Calls = {"ulysses_anything": lambda: ulysses.apply(*qkv, *options, None, Operator(), None, config)}
    if len(set(layout.lengths)) > 1:
        return calls, {"ring": EVEN}
    return calls | {"ring": lambda: ring.apply(*qkv, *options, Operator(), None, config)}, {}


def _yunchang(topology: Topology, layout: Layout, qkv: list[torch.Tensor]) -> tuple[Calls, dict[str, str]]:
    if len(set(layout.lengths)) > 1:
        return {}, {"ring": EVEN, "ulysses": EVEN}
    package, kernels = importlib.import_module("yunchang"), importlib.import_module("yunchang.kernels")
    # Its only kernel for CPUs is torch's plain one; on CUDA torch's flash attention is what all have.
    kernel = kernels.AttnType.TORCH_FLASH if qkv[0].is_cuda else kernels.AttnType.TORCH_MATH
    calls: Calls = {}
    refused: dict[str, str] = {}
    for name, degree in (("ring", 1), ("ulysses", topology.world_size)):
        if name == "ring" and not qkv[0].is_cuda:
            refused[name] = "none of its kernels gives an LSE on a CPU"
            continue
        if qkv[0].shape[2] % degree:
            refused[name] = f"{qkv[0].shape[2]} heads are no multiple of {degree}"
            continue
        package.set_seq_parallel_pg(degree, topology.world_size // degree, topology.rank, topology.world_size)
        calls[name] = _apply(package.LongContextAttention(attn_type=kernel), qkv)
    return calls, refused


def _apply(attention: Callable[..., Any], qkv: list[torch.Tensor]) -> Callable[[], Any]:
    return lambda: attention(*qkv)


def calls(topology: Topology, layout: Layout, qkv: list[torch.Tensor]) -> tuple[Calls, dict[str, str]]:
    """The peers' attention over all ranks, by name and version; and why others are not there.

    Args:
        topology: all ranks of the job, in order. layout: every rank's tokens. qkv: this rank's, each (B, S, H, D).
    """
    found: Calls = {}
    absent: dict[str, str] = {}
    for package, bring in {"cache-dit": _cache_dit, "yunchang": _yunchang}.items():
        try:
            named = f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            absent[package] = "not installed"
            continue
        try:
            brought, refused = bring(topology, layout, qkv)
        except (ImportError, AttributeError) as error:
            absent[named] = f"not as this benchmark knows it: {error}"
            continue
        found |= {f"{named} {name}": call for name, call in brought.items()}
        absent |= {f"{named} {name}": why for name, why in refused.items()}
    return found, absent
