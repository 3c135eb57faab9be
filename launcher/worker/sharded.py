"""Transformers whose weights the ranks share by torch's `fully_shard` (FSDP2): runtime.weights=sharded.

Each rank holds its part of every parameter. A block's weights are gathered from all ranks before it computes, and
dropped after it; those of the next block travel meanwhile. So every rank computes with the same weights as if it held
them all, to the bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from launcher.worker.heap import give_back_what_is_freed
from launcher.worker.quantizing import tensors_of

MOST = "_most_gathered"  # what a transformer is told of itself: bytes


def shard(transformer: Any, device: torch.device, group: dist.ProcessGroup) -> None:
    """Leave this rank its part of a transformer's weights, on its device; all ranks of a group do so at once.

    The transformer may be on the CPU, where it is whole for a moment: its blocks go to the device one by one.
    """
    if device.type == "cpu":
        give_back_what_is_freed()
    mesh, lists = DeviceMesh.from_group(group, device.type), _lists_of(transformer)
    sizes = [[_bytes_of(block) for block in blocks] for blocks in lists]
    for block in (*itertools.chain(*lists), transformer):
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
        block._set_unshard_async_op(True)
    setattr(transformer, MOST, 0)
    computed: list[Any] = []
    for blocks, each in zip(lists, sizes, strict=True):
        _in_turn(blocks)  # of each list, until the order of all is seen: some may not compute (FLUX.3's image_cond)
        for block, travelling in zip(blocks, [*each[1:], 0], strict=True):
            _count_once(transformer, block, travelling, computed)

    def learn(*_: object) -> None:
        handle.remove()
        _in_turn(computed)

    handle = transformer.register_forward_hook(learn)


def _in_turn(blocks: Iterable[Any]) -> None:
    """Have each block ask for the weights of the one behind it."""
    for block, after in itertools.pairwise((*blocks, None)):
        block.set_modules_to_forward_prefetch([] if after is None else [after])


def blocks_of(transformer: torch.nn.Module) -> list[Any]:
    """The blocks with attention in them, in the order in which most classes compute them (not Wan's VACE)."""
    return list(itertools.chain(*_lists_of(transformer)))


def _lists_of(transformer: torch.nn.Module) -> list[torch.nn.ModuleList]:
    """Those blocks, list by list: the transformer's own, and those by a name of its own (FLUX.3's mode_blocks)."""
    parts = [each.children() if isinstance(each, torch.nn.ModuleDict) else [each] for each in transformer.children()]
    lists = [each for each in itertools.chain(*parts) if isinstance(each, torch.nn.ModuleList)]
    return [each for each in lists if any(hasattr(part, "processor") for part in each.modules())]


def bytes_held(part: torch.nn.Module) -> int:
    """Bytes of a part's weights that a rank holds, at most: its share, and what was gathered at once."""
    shares = [weight.to_local() for weight in part.parameters() if isinstance(weight, DTensor)]
    plain = [each for weight in part.parameters() if not isinstance(weight, DTensor) for each in tensors_of(weight)]
    whole = {each.data_ptr(): each.nbytes for each in plain}
    padded = sum({each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in shares}.values())
    return padded + sum(whole.values()) + int(getattr(part, MOST, 0))


def _count_once(
    transformer: torch.nn.Module, block: torch.nn.Module, travelling: int, computed: list[torch.nn.Module]
) -> None:
    """Note what is gathered when a block first computes: its own weights, those outside blocks, and the next one's;
    and that it does so now.
    """

    def count(*_: object) -> None:
        handle.remove()
        computed.append(block)
        gathered = sum(each.nbytes for each in transformer.parameters() if not isinstance(each, DTensor))
        setattr(transformer, MOST, max(getattr(transformer, MOST), gathered + travelling))

    handle = block.register_forward_pre_hook(count)


def _bytes_of(module: torch.nn.Module) -> int:
    return sum(weight.nbytes for weight in module.parameters())
