"""What all tests share: the launcher as a user runs it, and machines to plan for."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from launcher.compose import Composer, to_config
from launcher.machine import Gpu, Machine
from launcher.request import Request, resolve

hypothesis.settings.register_profile("shared machine", deadline=None)  # timings are no assertions
hypothesis.settings.load_profile("shared machine")

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


@pytest.fixture
def launch(tmp_path: Path):
    """Run the launcher in a folder of its own and wait for it."""

    def run(*words: str, timeout: float = 240, **env: str) -> Ended:
        result = subprocess.run(
            command(*words),
            cwd=tmp_path,
            env=hermetic(**env),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ended(result.returncode, result.stdout, result.stderr, tmp_path / "outputs")

    return run


@pytest.fixture(scope="session")
def composer() -> Composer:
    return Composer()


@pytest.fixture
def ask(composer: Composer):
    """The resolved request for some words of a command line, on a machine of one's choice."""

    def resolved(*words: str, machine: Machine = LAPTOP) -> Request:
        return resolve(to_config(composer.compose(list(words))), machine)

    return resolved
