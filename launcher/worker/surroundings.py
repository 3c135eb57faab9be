"""What a rank knows of where it runs and of what it holds: for the record, from which a run is made again."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.constants import DIFFUSERS_ATTN_BACKEND

from attention_backends import ContextParallel
from attention_backends.diffusers_seam import theirs
from launcher.records.record import Scheduler
from launcher.worker.heap import give_back


def deterministic() -> None:
    """Have torch refuse what gives another result each time; CUBLAS_WORKSPACE_CONFIG was set before CUDA started."""
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def environment(device: str) -> dict[str, str]:
    """Libraries below torch, and the switches that decide whether two runs make the same numbers."""
    found = {
        "matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()).lower(),
    }
    if device == "cpu":
        return found | {"cpu_capability": torch.backends.cpu.get_cpu_capability()}
    found |= {
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
        "cudnn_benchmark": str(torch.backends.cudnn.benchmark).lower(),
        "cudnn_tf32": str(torch.backends.cudnn.allow_tf32).lower(),
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""),
        "gpu": torch.cuda.get_device_name(),
    }
    if torch.distributed.is_nccl_available():
        found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    return found


def scheduler(pipe: Any) -> Scheduler:
    """What turned noise into a picture, with its settings."""
    known = pipe.scheduler.config
    plain = {key: value for key, value in dict(known).items() if _is_plain(value) and not key.startswith("_")}
    return Scheduler(type(pipe.scheduler).__name__, plain)


def _is_plain(value: object) -> bool:
    """Whether JSON can hold it: numbers that are finite, text, and lists of them."""
    if isinstance(value, float):
        return abs(value) < float("inf")
    return value is None or isinstance(value, (str, int)) or (isinstance(value, list) and all(map(_is_plain, value)))


def kernel(transformer: Any) -> str:
    """What a transformer's attention was computed with, the last time."""
    state = getattr(transformer, "_parallel_config", None)
    if isinstance(state, ContextParallel):
        return str(state.operator)
    return theirs.operator() or str(DIFFUSERS_ATTN_BACKEND)


class Moments:
    """Moments of a picture. On a GPU they are events in its queue: it works long after Python has asked it to."""

    def __init__(self) -> None:
        self._marks: list[Any] = []

    def mark(self) -> None:
        """It is now."""
        if not torch.cuda.is_initialized():
            self._marks.append(time.monotonic())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(event)

    def seconds(self) -> tuple[float, ...]:
        """What lies between each two."""
        pairs = list(zip(self._marks, self._marks[1:], strict=False))
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
            return tuple(round(before.elapsed_time(after) / 1000, 6) for before, after in pairs)
        return tuple(round(after - before, 6) for before, after in pairs)


def reset_peak_memory() -> None:
    """Count from now on, without what a larger job before has left: free memory goes back first."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # what is reserved counts
        torch.cuda.reset_peak_memory_stats()
    give_back()
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a hardened container may forbid it: then the peak is the process's
            Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is used now: proc(5)


def peak_memory() -> int:
    """Bytes that this rank held at most since the job began: of the GPU if it uses one, else of main memory."""
    return torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else peak_host_memory()


def peak_host_memory() -> int:
    """The same of main memory."""
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
