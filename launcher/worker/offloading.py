"""Weights that wait in main memory until they are computed with, by diffusers' hooks and accelerate's.

The hooks are on a pipeline's parts from when they are loaded, below those that share a sequence or cache steps, which
come and go with jobs: so what is brought is there when any of them computes, and a skipped block brings nothing.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate import cpu_offload
from accelerate.hooks import remove_hook_from_module
from diffusers.hooks import apply_group_offloading
from diffusers.hooks.group_offloading import (
    _GROUP_OFFLOADING,
    _LAYER_EXECUTION_TRACKER,
    _LAZY_PREFETCH_GROUP_OFFLOADING,
)

from launcher.offloading import GROUP, IN_PIECES, MODEL, NONE
from launcher.worker.absent import Settle, is_absent
from launcher.worker.sharded import blocks_of, bytes_held


class Offload:
    """Where the weights of a pipeline's parts are while they are not computed with.

    Args:
        how: a word of launcher.offloading.WAYS.
        device: computes. transformers: the names of the parts that go by blocks with `group`.
    """

    def __init__(self, how: str, device: torch.device, transformers: Sequence[str] = ()) -> None:
        self.how, self.device, self.transformers = how, device, transformers
        self.bytes: dict[str, int] = {}  # of the parts whose weights can't be counted on them, as they wait elsewhere

    @property
    def home(self) -> torch.device:
        """The device that a pipeline takes a part for which is not loaded to be on."""
        return torch.device("cpu") if self.how == MODEL else self.device

    def settle(self, name: str) -> Settle:
        """What puts a part that was loaded later to its place."""
        return functools.partial(self._put, name) if self.how in IN_PIECES else lambda part: part.to(self.home)

    def put(self, pipe: Any) -> None:
        """Put a pipeline's parts to their places, from the CPU."""
        if self.how == NONE:
            pipe.to(self.device)
        elif self.how == MODEL:
            pipe.enable_model_cpu_offload(device=self.device)
        else:
            for name, part in self._parts(pipe):
                if name in pipe._exclude_from_cpu_offload:
                    part.to(self.device)
                else:
                    self._put(name, part)

    @contextlib.contextmanager
    def whole(self, pipe: Any) -> Iterator[None]:
        """Have the parts be whole on the CPU while the block runs, which may change their modules and weights."""
        if self.how not in IN_PIECES:
            yield
            return
        for _, part in self._parts(pipe):
            _take_off(part)
        try:
            yield
        finally:
            self.put(pipe)

    def _parts(self, pipe: Any) -> list[tuple[str, Any]]:
        parts = pipe.components.items()
        return [(name, part) for name, part in parts if isinstance(part, torch.nn.Module) and not is_absent(part)]

    def _put(self, name: str, part: torch.nn.Module) -> None:
        self.bytes[name] = bytes_held(part)
        if self.how == GROUP and name in self.transformers:
            by_blocks(part, self.device)
        else:
            by_layers(part, self.device)


def by_layers(part: torch.nn.Module, device: torch.device) -> None:
    """Have a part bring each layer's weights to a device for as long as that layer computes."""
    cpu_offload(part, device, offload_buffers=bool(part._parameters))  # as enable_sequential_cpu_offload does


def by_blocks(transformer: torch.nn.Module, device: torch.device) -> None:
    """Have a transformer bring each block's weights to a device while the one before it computes, and drop them after.

    What is in no block comes for the whole forward. Without a stream, on a CPU, a block's come when it begins. A block
    that is over is waited for before its weights go: else the CPU would run ahead, and all could be there at once.
    """
    streams = device.type == "cuda"
    apply_group_offloading(
        transformer, device, offload_type="block_level", num_blocks_per_group=1, use_stream=streams, record_stream=False
    )
    if streams:
        in_turn(transformer)


def in_turn(transformer: Any) -> None:
    """Tell each block which one comes next.

    diffusers would watch the first forward to learn it. To end that it takes a hook off in the midst of the forward,
    and with it all that was put around the module since, as what shares guidance is. It also needs a forward that
    computes every block. A block that comes out of turn brings its weights itself.
    """
    for name in (_LAZY_PREFETCH_GROUP_OFFLOADING, _LAYER_EXECUTION_TRACKER):
        transformer._diffusers_hook.remove_hook(name, recurse=True)
    hooks = [each._diffusers_hook.get_hook(_GROUP_OFFLOADING) for each in (transformer, *blocks_of(transformer))]
    for hook, after in itertools.pairwise(hooks):
        hook.next_group, after.group.onload_self, after.group.non_blocking = after.group, False, True


def _take_off(part: Any) -> None:
    """Undo by_layers or by_blocks: all weights are on the CPU."""
    if (registry := getattr(part, "_diffusers_hook", None)) is not None:
        registry.remove_hook(_GROUP_OFFLOADING, recurse=True)
    remove_hook_from_module(part, recurse=True)
    part.to("cpu")  # what was brought and not used: the block after one that a cache skipped, say
