"""What tests share: the launcher as a user runs it, and machines to plan for."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from launcher.machine import Gpu, Machine

ROOT = Path(__file__).parent.parent
LAPTOP = Machine(cores=2)
GPUS = Machine(cores=16, gpus=tuple(Gpu(index, "NVIDIA H100", 81559) for index in range(4)))


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    folder: Path  # where its runs are

    @property
    def runs(self) -> list[Path]:
        """Run directories, oldest first."""
        return sorted(
            (record.parent for record in self.folder.rglob("run.json")), key=lambda path: path.stat().st_ctime
        )


def command(*words: str) -> list[str]:
    """The line that a user types, for this Python."""
    return [sys.executable, "-m", "launcher", *words]


def hermetic(**more: str) -> dict[str, str]:
    """An environment without the user's GPUs and hub token."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "LAUNCHER_"))}
    return kept | {"HF_HUB_OFFLINE": "", "HF_HOME": "/nonexistent", "CUDA_VISIBLE_DEVICES": ""} | more
