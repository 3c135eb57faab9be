"""How CUDA tensors travel: NCCL takes them from device to device, gloo by way of pinned host memory.

NCCL refuses two ranks on one device, so ranks that share a GPU need the host, as does a machine whose NCCL does not
work. A group has NCCL for its CUDA tensors or it has not: `exchange.post` goes by that alone.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist


class Waits(Protocol):
    def wait(self) -> Any: ...


class Group(Protocol):
    """What messages go through: a dist.ProcessGroup, or a wire.Wire, which a failure breaks."""

    def rank(self) -> int: ...
    def size(self) -> int: ...
    def send(self, tensors: list[torch.Tensor], peer: int, tag: int, /) -> Waits: ...
    def recv(self, tensors: list[torch.Tensor], peer: int, tag: int, /) -> Waits: ...


def tag(size: int, group: Group) -> int:
    """The tag of a message of so many bytes. One of another size, or from another place, is never taken for it.

    gloo ends the process if a message is longer than its receive, and takes a shorter one in silence.
    """
    return zlib.crc32(f"{getattr(group, 'place', '')} {size}".encode()) & 0x7FFFFFFF


def registered(group: Any) -> dist.ProcessGroup:
    """The process group that torch.distributed's own functions know."""
    found: dist.ProcessGroup = getattr(group, "parent", group)
    return found


def has_nccl(group: Any) -> bool:
    """Whether CUDA tensors of this group are NCCL's to move."""
    return not getattr(group, "by_host", False) and "cuda:nccl" in str(dist.get_backend_config(registered(group)))


def device() -> str:
    """What tells this rank's GPU from others, "" without one."""
    if not torch.cuda.is_available():
        return ""
    return str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)


def decide(asked: str, nccl: bool, devices: Sequence[str]) -> str:
    """How CUDA tensors of these ranks travel, "nccl" or "host".

    Args:
        asked: one of catalog.TRANSPORTS. nccl: whether the process group has NCCL. devices: every rank's `device()`.

    Raises:
        ValueError: it can't be as asked.
    """
    if not nccl and asked == "nccl":
        raise ValueError(
            "transport='nccl': the process group has no NCCL. Use init_process_group('cpu:gloo,cuda:nccl'), or "
            "transport='host'."
        )
    if not nccl or asked == "host" or "" in devices:
        return "host"
    if len(set(devices)) == len(devices):
        return "nccl"
    if asked == "nccl":
        raise ValueError("transport='nccl': two ranks use one GPU, which NCCL refuses. Use transport='host'.")
    return "host"


@dataclass
class _Staged:
    """A message from or into host memory, which must stay until the wait is over; one that arrives goes to `into`."""

    work: Waits
    host: torch.Tensor
    into: torch.Tensor | None = None

    def wait(self) -> None:
        self.work.wait()
        if self.into is not None:
            self.into.copy_(self.host, non_blocking=True)  # in the stream's order, before whatever reads it


def post_by_host(
    sends: Sequence[tuple[int, torch.Tensor]], receives: Sequence[tuple[int, torch.Tensor]], group: Group
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
        works.append(_Staged(group.recv([host], peer, tag(host.nbytes, group)), host, x))
    for peer, host in leaving:
        works.append(_Staged(group.send([host], peer, tag(host.nbytes, group)), host))
    return works


def _pinned(x: torch.Tensor) -> torch.Tensor:
    """Host memory for x that the device copies to and from by itself; torch keeps such blocks for the next time."""
    return torch.empty(x.shape, dtype=x.dtype, pin_memory=x.is_cuda)
