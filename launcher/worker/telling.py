"""What one rank of a group tells the others: JSON, so that nothing that comes over a wire is unpickled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._pytree import (  # diffusers' outputs are known to it
    tree_flatten,
    tree_map,
    tree_unflatten,
    treespec_dumps,
    treespec_loads,
)

Group = dist.ProcessGroup | None  # None: all ranks


@dataclass(frozen=True)
class Shape:
    """What is told of a tensor in place of its numbers. on_gpu: of a rank's own GPU, else in main memory."""

    size: tuple[int, ...]
    dtype: torch.dtype
    on_gpu: bool = False


def shapes(value: Any) -> Any:
    """The same value with shapes for tensors, as `tell` takes it."""
    return tree_map(lambda x: Shape(tuple(x.shape), x.dtype, x.is_cuda) if isinstance(x, torch.Tensor) else x, value)


def tell(value: Any, group: Group = None) -> None:
    """Tell the others of a group a value, from its first rank: containers of shapes, text, numbers and None.

    Raises:
        TypeError: JSON can't say it.
    """
    leaves, form = tree_flatten(value)
    words = json.dumps({"form": treespec_dumps(form), "leaves": [_said(x) for x in leaves]}).encode()
    _broadcast(torch.tensor([len(words)]), group)
    _broadcast(torch.frombuffer(bytearray(words), dtype=torch.uint8), group)


def hear(group: Group = None) -> Any:
    """What the first rank of a group tells."""
    length = torch.zeros(1, dtype=torch.int64)
    _broadcast(length, group)
    words = torch.empty(int(length), dtype=torch.uint8)
    _broadcast(words, group)
    told = json.loads(words.numpy().tobytes())
    return tree_unflatten([_heard(x) for x in told["leaves"]], treespec_loads(told["form"]))


def tell_tensors(value: Any, group: Group = None) -> None:
    """Tell the others a value with its tensors' numbers."""
    tell(shapes(value), group)
    for x in tree_flatten(value)[0]:
        if isinstance(x, torch.Tensor) and x.numel():
            _broadcast(_as_bytes(x.detach().cpu()), group)


def hear_tensors(told: Any, group: Group = None) -> Any:
    """What `tell_tensors` tells, after `hear` gave its shapes."""
    return tree_map(lambda x: _received(x, group) if isinstance(x, Shape) else x, told)


def _received(shape: Shape, group: Group) -> torch.Tensor:
    got = torch.empty(shape.size, dtype=shape.dtype)
    if got.numel():
        _broadcast(_as_bytes(got), group)
    return got.cuda() if shape.on_gpu else got


def _broadcast(x: torch.Tensor, group: Group) -> None:
    """From the first rank of a group, whether or not torch knows the group by name."""
    among = dist.group.WORLD if group is None else group
    assert among is not None, "ranks are joined before one tells the others something"
    among.broadcast(x, 0).wait()


def _as_bytes(x: torch.Tensor) -> torch.Tensor:
    """The same memory where it is contiguous: what a broadcast takes whatever the dtype."""
    return x.contiguous().reshape(-1).view(torch.uint8)


def _said(leaf: Any) -> Any:
    if isinstance(leaf, Shape):
        return {"size": leaf.size, "dtype": str(leaf.dtype).removeprefix("torch."), "on_gpu": leaf.on_gpu}
    return leaf


def _heard(leaf: Any) -> Any:
    if isinstance(leaf, dict):
        return Shape(tuple(leaf["size"]), getattr(torch, leaf["dtype"]), leaf["on_gpu"])
    return leaf
