"""Folders of runs that were never drawn, for what reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from shared import a_recipe, a_record

from launcher import codec
from launcher.records.files import sha256
from launcher.records.formats import FORMATS
from launcher.records.picture import save
from launcher.records.record import File
from launcher.records.sweep_log import SweepJob, write_sweep

Put = Callable[..., Path]


@pytest.fixture(scope="session")
def evil() -> str:
    """A prompt that would be markup in a page that took it for some."""
    return "<script>alert(1)</script>|\"'&`[x](javascript:y) ${7*7} {{7*7}}"


@pytest.fixture(scope="session")
def put() -> Put:
    """Write a job of a sweep, with a picture that is so far off."""
    return _put


def _put(
    folder: Path, number: int, mode: str, ranks: int = 2, step: float = 0.5, noise: int = 0, **changes: Any
) -> Path:
    """A job of a sweep, with a picture that is so far off."""
    place = folder / str(number)
    place.mkdir(parents=True)
    pixels = np.full((24, 32, 3), 100, np.uint8)
    pixels[3:6] += np.uint8(noise)
    save([Image.fromarray(pixels)], place / "0000.png", a_recipe(), FORMATS["png"])
    file = File("0000.png", sha256(place / "0000.png"), 1, 24, 32, 1, 0)
    ring = ranks if mode != "none" else 1
    config = {
        "model": {"name": "flux", "path": "owner/flux"},
        "cp": {"mode": mode, "ring_degree": ring, "ulysses_degree": 1},
        "runtime": {"processes": ring},
        "height": 24,
        "width": 32,
        "frames": None,
        "steps": 2,
    }
    told: dict[str, Any] = {
        "status": "done",
        "config": config,
        "overrides": (f"cp={mode}", f"cp.ring_degree={ring}", "prompt=x"),
        "command": f"python -m launcher cp={mode}",
        "files": (file,),
        "step_seconds": ((step, step),),
        "peak_bytes": (ring << 20, 1),
        "tokens_per_rank": ({"text": 8, "image": 4}, *({"text": 0, "image": 0},) * (ring - 1)),
        "times": {"load": 1.0, "encode": 0.1, "denoise": 2 * step, "decode": 0.2, "save": 0.1},
        "environment": {"system": "Linux"},
        "versions": {"torch": "2.13" if number else "2.14"},
        "started": f"2026-01-01T00:00:{number:02d}+00:00",
    }
    (place / "run.json").write_text(codec.dumps(a_record(**{**told, **changes})))
    return place


@pytest.fixture
def sweep(tmp_path: Path, put: Put, evil: str) -> Path:
    """Five jobs, one of them failed, and one that was refused."""
    folder = tmp_path / "sweep"
    put(folder, 0, "none", step=1.0)
    put(folder, 1, "ring", 2, step=0.6, noise=3)
    put(folder, 2, "ring", 4, step=0.4)
    put(folder, 3, "ulysses", 2, step=0.55, noise=9, prompts=(evil,), overrides=("cp=ulysses", f"prompt={evil}"))
    put(folder, 10, "ring", 3, status="failed", error="rank 1: it broke", files=(), step_seconds=())
    write_sweep(folder, [SweepJob(11, ("cp=ulysses", "cp.ring_degree=5"), "refused", "24 heads do not divide | by 5")])
    return folder
