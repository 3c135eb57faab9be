"""What this machine has, asked without importing torch (1.8 s, which a refused request should not cost)."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field

CPU_RANKS = 2  # ranks of a parallel mode on a CPU when nothing says how many


@dataclass(frozen=True)
class Gpu:
    """One visible CUDA device; `index` counts the visible ones, as torch does."""

    index: int
    name: str
    memory_mib: int


@dataclass(frozen=True)
class Machine:
    """Cores that this process may run on, and the GPUs that it may see."""

    cores: int
    gpus: tuple[Gpu, ...] = ()
    note: str = field(default="", compare=False)

    def __str__(self) -> str:
        names = sorted({gpu.name for gpu in self.gpus})
        gpus = f"{len(self.gpus)} GPU{'s' * (len(self.gpus) > 1)} ({', '.join(names)})" if self.gpus else "no CUDA GPU"
        return f"{self.cores} CPU core{'s' * (self.cores > 1)}, {gpus}{self.note}"


def here() -> Machine:
    """This machine. `CUDA_VISIBLE_DEVICES` is respected, by index and by UUID."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus, note = _gpus()
    return Machine(cores, gpus, note)


def _gpus() -> tuple[tuple[Gpu, ...], str]:
    if shutil.which("nvidia-smi") is None:
        return (), ""
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        rows = [[cell.strip() for cell in line.split(",")] for line in answer.splitlines() if line.strip()]
        found = [(index, uuid, name, int(memory)) for index, uuid, name, memory in rows]
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return (), f" (nvidia-smi gave no list of GPUs: {type(error).__name__})"
    names = visible_devices()
    if names is not None:
        chosen = []
        for name in names:
            match = [row for row in found if row[0] == name or row[1].startswith(name)]
            if not match:  # CUDA ignores what follows an unknown entry
                break
            chosen.append(match[0])
        found = chosen
    return tuple(Gpu(position, name, memory) for position, (_, _, name, memory) in enumerate(found)), ""


def visible_devices() -> list[str] | None:
    """The entries of CUDA_VISIBLE_DEVICES, indices or UUIDs; None if it is not set and every GPU may be used."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if visible is None else [name for name in (part.strip() for part in visible.split(",")) if name]
