"""Which cores a rank runs on: where a machine has several NUMA nodes, those of one, beside its memory or its GPU.

On one node nothing is pinned. /sys is described in the kernel's Documentation/admin-guide/mm/numaperf.rst and
Documentation/ABI/testing/sysfs-bus-pci.
"""

from __future__ import annotations

import os
from pathlib import Path

from launcher import gpus

SYS = Path("/sys")


def pin(rank: int, ranks: int, threads: int, gpu: str | None, root: Path = SYS) -> set[int] | None:
    """Keep this process, and the threads that it starts from now on, to its cores.

    Args:
        threads: that the rank computes with; on a CPU it is left alone where one node has not enough cores for them.
        gpu: what CUDA_VISIBLE_DEVICES calls the rank's GPU, an index or a UUID; None on a CPU.

    Returns:
        The cores, or None if nothing was pinned.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None  # macOS
    found = nodes(root)
    if len(found) < 2:
        return None
    cores = share(rank, ranks, threads, found) if gpu is None else found.get(node_of(gpu, root))
    if not cores:
        return None
    try:
        os.sched_setaffinity(0, cores)
    except OSError:  # a container may forbid it
        return None
    return cores


def nodes(root: Path = SYS) -> dict[int, set[int]]:
    """The cores of each NUMA node that this process may run on; nodes without any are left out."""
    found = {}
    for file in root.glob("devices/system/node/node*/cpulist"):
        cores = parse(file.read_text()) & os.sched_getaffinity(0)
        if cores:
            found[int(file.parent.name.removeprefix("node"))] = cores
    return dict(sorted(found.items()))


def share(rank: int, ranks: int, threads: int, found: dict[int, set[int]]) -> set[int] | None:
    """The node that a rank is dealt: neighbours in the ring share one. None if its ranks' threads do not fit there."""
    dealt = [other * len(found) // ranks for other in range(ranks)]
    cores = list(found.values())[dealt[rank]]
    return cores if dealt.count(dealt[rank]) * threads <= len(cores) else None


def node_of(gpu: str, root: Path = SYS) -> int:
    """The NUMA node that a GPU is attached to, -1 if it is not known."""
    address = gpus.address(gpu).lower()[-len("0000:3b:00.0") :]
    try:
        return int((root / "bus/pci/devices" / address / "numa_node").read_text())
    except (OSError, ValueError):
        return -1


def parse(cpulist: str) -> set[int]:
    """The cores of a list as the kernel writes it: `0-3,8`."""
    cores: set[int] = set()
    for part in cpulist.strip().split(","):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1) if first else ())
    return cores
