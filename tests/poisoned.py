"""Offloading that a CPU can show: weights that wait are not numbers, so what computes with them too early or late is seen.

A CPU has no memory to move weights to. So `group` keeps them in files, diffusers' own way, and leaves NaN in their
place: `torch.empty_like` fills with it under deterministic algorithms. With `sequential` they are on torch's meta device.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers.hooks.group_offloading import GroupOffloadingConfig, GroupOffloadingHook, _apply_group_offloading

from launcher.worker import offloading


class Stream:
    """Stands for one of a GPU's: what is put on it is done at once."""

    def synchronize(self) -> None:
        """All is done."""


def _apply(folder: str, streams: bool, module: torch.nn.Module, device: torch.device, **given: Any) -> None:
    del given["use_stream"]
    stream = Stream() if streams else None
    config = GroupOffloadingConfig(
        onload_device=device,
        offload_device=torch.device("cpu"),
        non_blocking=False,
        low_cpu_mem_usage=True,
        offload_to_disk_path=tempfile.mkdtemp(dir=folder),
        stream=stream,  # type: ignore[arg-type]
        **given,
    )
    _apply_group_offloading(module, config)
    if streams:
        offloading.in_turn(module)


def _whole(hook: GroupOffloadingHook, module: torch.nn.Module) -> torch.nn.Module:
    hook.group.onload_()
    return module


@contextlib.contextmanager
def poisoned(streams: bool = False) -> Iterator[None]:
    """Have `group` leave NaN where weights wait while the block runs; with streams, as on a GPU.

    Args:
        streams: blocks are brought while others compute, by a stream's stand-in.
    """
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(offloading, "apply_group_offloading", functools.partial(_apply, folder, streams))
        patch.setattr(GroupOffloadingHook, "deinitalize_hook", _whole)  # as weights in memory are, without a hook
        if streams:
            patch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
            patch.setattr(torch.cpu, "stream", lambda _: contextlib.nullcontext())
            patch.setattr(torch.cpu, "current_stream", Stream)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(False)
