"""Offloading that a CPU can show: weights that wait are no numbers, so what computes with them meanwhile is seen.

A CPU has no other memory to move weights to. So `group` keeps them in files, which diffusers can do, and NaN stands in
their place. With `sequential` they are on torch's meta device.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers.hooks import group_offloading
from diffusers.hooks.group_offloading import (
    GroupOffloadingConfig,
    GroupOffloadingHook,
    ModuleGroup,
    _apply_group_offloading,
)

from launcher.worker import offloading

TO_FILE = ModuleGroup._offload_to_disk


class Stream:
    """Stands for one of a GPU's: what is put on it is done at once."""

    def synchronize(self) -> None:
        """All is done."""


class Backend:
    """What diffusers asks of a kind of device."""

    def __init__(self, _: torch.device) -> None: ...

    def stream(self, _: Stream) -> contextlib.AbstractContextManager[None]:
        """What is done within is put on the stream."""
        return contextlib.nullcontext()

    def current_stream(self) -> Stream:
        """The one that computes."""
        return Stream()


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


def _leave_nan(group: ModuleGroup) -> None:
    TO_FILE(group)
    for weight in group.tensor_to_key:
        weight.data.fill_(torch.nan)


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
        patch.setattr(ModuleGroup, "_offload_to_disk", _leave_nan)
        patch.setattr(GroupOffloadingHook, "deinitalize_hook", _whole)  # as weights in memory are, without a hook
        if streams:
            patch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
            patch.setattr(group_offloading, "TorchDeviceBackend", Backend)
        yield
