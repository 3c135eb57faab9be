"""Every family's tiny twin through the launcher on one GPU: one rank, its weights in main memory, two ranks."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
NEEDED = ("diffusers", "transformers", "accelerate", "hydra", "psutil", "tqdm", "PIL")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}, not installed")

ROOT = Path(__file__).parent.parent.parent
REFUSED = {"ideogram4": {"1 rank, by blocks"}}  # before a rank starts
BESIDE = 3  # processes that draw at the same time: to build a twin and to load it takes longer than to draw


def names() -> list[str]:
    """Each family, and each task that starts from a picture."""
    sys.path.insert(0, str(ROOT / "tests" / "families"))
    from tasks_table import CELLS, TEXT

    tasks = [f"{name}:{task}" for name, some in CELLS.items() for task in some if "video" not in task]
    return [*TEXT, *tasks]


NAMES = [] if MISSING else names()


def drawn(folder: Path, some: list[str]) -> list[dict[str, Any]]:
    """What twins_on_card.py says of each."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "LAUNCHER_"))}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "PYTHONPATH": os.pathsep.join(paths)}
    env["NVIDIA_TF32_OVERRIDE"] = "0"  # torch's default for convolutions; with it some twins are 53 levels off
    folder.mkdir()
    command = [sys.executable, str(Path(__file__).parent / "twins_on_card.py"), str(folder), *some]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(told) == len(some), done.stderr[-3000:]
    return told


def beside(folder: Path) -> dict[str, Any]:
    """By name, what was found."""
    parts = [NAMES[number::BESIDE] for number in range(BESIDE)] if NAMES else []
    folders = [folder / str(number) for number in range(len(parts))]
    with ThreadPoolExecutor(BESIDE) as pool:
        return {name: one for told in pool.map(drawn, folders, parts) for each in told for name, one in each.items()}


@pytest.mark.parametrize("name", NAMES)
def test_twin(name, beside, check):
    """One rank draws what a CPU draws, and all other ways what that rank draws."""
    told = beside[name]
    print(told.get("failed", ""))
    assert "failed" not in told, told["failed"].strip().splitlines()[-1]
    assert {way for way, one in told.items() if isinstance(one, str)} == REFUSED.get(name, set()), told
    for way in told.keys() - REFUSED.get(name, set()):
        most, mean = told[way]
        like = "a CPU's" if way == "1 rank" else "one rank's"
        check(f"{name}, {way}: most levels from {like}", most, 3)
        check(f"{name}, {way}: mean levels from {like}", mean, 0.1)
