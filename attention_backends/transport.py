"""How CUDA tensors travel: NCCL takes them from device to device, gloo by way of pinned host memory.

NCCL refuses two ranks on one device, so ranks that share a GPU need the host, as does a machine whose NCCL does not
work. A group without NCCL goes by the host, and one with both NCCL and gloo as `enable` was asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist


class Waits(Protocol):
    def wait(self) -> Any: ...


_BY_HOST: set[dist.ProcessGroup] = set()  # groups with NCCL whose CUDA tensors travel by host memory all the same


def by_host(group: dist.ProcessGroup) -> bool:
    """Whether CUDA tensors of this group travel by host memory."""
    return group in _BY_HOST or not _has(group, "cuda:nccl")


def settle(transport: str, group: dist.ProcessGroup) -> str:
    """How this group's CUDA tensors travel from now on, "nccl" or "host".

    Every rank of the group calls it.

    Raises:
        ValueError: alike on every rank, for what the group can't do.
    """
    both = "Use init_process_group('cpu:gloo,cuda:nccl')"
    if not _has(group, "cuda:nccl"):
        if transport == "nccl":
            raise ValueError(f"transport='nccl': the process group has no NCCL. {both}, or transport='host'.")
        return "host"
    if not _has(group, "cpu:gloo"):
        if transport == "host":
            raise ValueError(f"transport='host': the process group has no gloo. {both}.")
        return "nccl"
    if transport != "host" and torch.cuda.is_available():
        alone = _a_device_each(group)
        if transport == "nccl" and not alone:
            raise ValueError("transport='nccl': two ranks use one GPU, which NCCL refuses. Use transport='host'.")
        if alone:
            _BY_HOST.discard(group)
            return "nccl"
    _BY_HOST.add(group)  # without a GPU tensors are on the CPU, where gloo moves them
    return "host"


def _has(group: dist.ProcessGroup, backend: str) -> bool:
    """Whether a device's tensors are this backend's to move: "cuda:nccl"."""
    return backend in str(dist.get_backend_config(group))


def _a_device_each(group: dist.ProcessGroup) -> bool:
    """Whether no two ranks have the same current device."""
    own = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    everyone: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(everyone, own, group=group)
    return len(set(everyone)) == len(everyone)


@dataclass
class _Staged:
    """A message from or into host memory, which must stay until the wait is over; one that arrives goes to `into`."""

    work: dist.Work
    host: torch.Tensor
    into: torch.Tensor | None = None

    def wait(self) -> None:
        self.work.wait()
        if self.into is not None:
            self.into.copy_(self.host, non_blocking=True)  # in the stream's order, before whatever reads it


def post_by_host(
    sends: Sequence[tuple[int, torch.Tensor]], receives: Sequence[tuple[int, torch.Tensor]], group: dist.ProcessGroup
) -> list[Waits]:
    """`exchange.post` for CUDA tensors, none of them empty: a work for each message, receives first.

    The host waits until the device has made what is sent, as gloo reads it at once. What is then attended to meanwhile
    runs on the device while gloo's threads move the rest.
    """
    arriving = [(peer, x, _pinned(x)) for peer, x in receives]
    leaving = [(peer, _pinned(x).copy_(x, non_blocking=True)) for peer, x in sends]
    if leaving and sends[0][1].is_cuda:
        torch.cuda.current_stream(sends[0][1].device).synchronize()
    works: list[Waits] = []
    for peer, x, host in arriving:
        works.append(_Staged(_started(dist.irecv(host, group=group, group_src=peer)), host, x))
    for peer, host in leaving:
        works.append(_Staged(_started(dist.isend(host, group=group, group_dst=peer)), host))
    return works


def _pinned(x: torch.Tensor) -> torch.Tensor:
    """Host memory for x that the device copies to and from by itself; torch keeps such blocks for the next time."""
    return torch.empty(x.shape, dtype=x.dtype, pin_memory=x.is_cuda)


def _started(work: dist.Work | None) -> dist.Work:
    assert work is not None, "this rank is in the group"
    return work
