"""Memory beside what is planned: `python -m tests.benchmarks.memory tiny|medium [SETTING=VALUE ...]`.

On a CPU, alone and on two ranks, whole and in tiles, shared and not, with weights whole and sharded, each by ranks that
were just started. tiny: flux_tiny at four sizes, 10 minutes. medium: a FLUX of 1 B random parameters (medium.py) from
files in bfloat16, in their dtype and converted to float32: 5 minutes, 10 GB of memory, 2 of disk.

What a rank held at most (the system's VmHWM), and what all ranks held before they decoded (the sum of their PSS, which
divides shared pages), over what launcher/estimates/memory.py says. Wants
a machine where no other program has torch loaded, whose pages would be divided with it. Ends with 1 where one is more
than 15% off.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from launcher.config.compose import Composer
from launcher.estimates import memory
from launcher.machines import here
from launcher.running.checked import request_of
from launcher.running.which_model import with_model
from tests.benchmarks import medium

SETTINGS = ["runtime=cpu", "runtime.threads=1", "seed=1"]
TILES = ["vae.tiling=true", "vae.tile=256"]
SHARED = [*TILES, "vae.shared=true"]
RING = ["cp=ring_anything", "cp.ring_degree=2"]
ULYSSES = ["cp=ulysses_anything", "cp.ulysses_degree=2"]
SHARDED = ["runtime.weights=sharded"]
SIZES = [(16, 16), (512, 512), (1024, 1024), (2048, 1024)]
LIMIT = 0.15


def tiny() -> list[list[str]]:
    """What is run of flux_tiny."""
    found = []
    for (height, width), ways in itertools.product(SIZES, (["cp=none"], RING, [*RING, *SHARDED])):
        words = ["model=flux_tiny", "steps=2", f"height={height}", f"width={width}", *ways]
        tiles = [[], TILES, *([SHARED] if ways[:2] == RING else [])] if height > 512 else [[]]
        found += [[*words, *each] for each in tiles]
    return found


def of_medium(folder: Path) -> list[list[str]]:
    """What is run of the model in a folder."""
    ways = [
        [512, "bfloat16", "cp=none"],
        [256, "bfloat16", *RING],
        [512, "bfloat16", *ULYSSES],
        [768, "bfloat16", *RING, *SHARED],
        [256, "bfloat16", *RING, *SHARDED],
        [512, "bfloat16", *ULYSSES, *SHARDED],
        [256, "float32", *ULYSSES],
        [256, "float32", *RING, *SHARDED],
    ]
    fixed = [f"model.path={folder}", "steps=1"]
    return [
        [*fixed, f"height={side}", f"width={side}", f"runtime.dtype={dtype}", *map(str, words)]
        for side, dtype, *words in ways
    ]


@dataclass(frozen=True)
class Held:
    """Bytes: of each rank at most, and of all together before they decoded."""

    ranks: list[int]
    together: int


def held(words: list[str]) -> Held:
    """What ranks hold that make a picture."""
    with tempfile.TemporaryDirectory() as name:
        folder, seen = Path(name), [0]
        with (folder / "screen").open("w") as screen:
            command = [sys.executable, "-m", "launcher", *words]
            child = psutil.Popen(command, cwd=folder, stdout=screen, stderr=subprocess.STDOUT)
            while child.poll() is None:
                now = pss(child)
                if "decoding ..." not in (folder / "screen").read_text():
                    seen.append(now)
                time.sleep(0.1)
        if child.returncode != 0:
            sys.exit(f"{' '.join(words)}: {(folder / 'screen').read_text()}")
        (path,) = folder.rglob("run.json")
        return Held(list(json.loads(path.read_text())["peak_bytes"]), max(seen))


def pss(launcher: psutil.Process) -> int:
    """Bytes of main memory that the ranks below a launcher hold, shared memory divided among those that share it."""
    total = 0
    for process in launcher.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[-1:] == ["launcher.worker"] and "accelerate.commands.launch" not in process.cmdline():
                total += process.memory_full_info().pss
    return total


def off(case: list[str]) -> float:
    """Print a line for a case; return how far what was planned for it is off, at most."""
    composer, words = Composer(), [*SETTINGS, *case]
    request = request_of(with_model(composer.compose(words), composer), words, here())
    needs, loading, seen = memory.of_ranks(request), memory.while_loading(request), held(words)
    assert loading is not None
    pairs = [*zip((need.total for need in needs), seen.ranks, strict=True), (loading, seen.together)]
    told = [f"{one / 2**20:.0f} MiB planned, {two / 2**20:.0f} held ({two / one - 1:+.0%})" for one, two in pairs]
    print(f"{' '.join(case)}: {'; '.join(told[:-1])}; together before decoding {told[-1]}", flush=True)
    return max(abs(two / one - 1) for one, two in pairs)


def main() -> None:
    """Print a line for each case; exit with 1 if one is off."""
    kind, *words = [*sys.argv[1:], ""]
    if kind not in ("tiny", "medium"):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        cases = tiny() if kind == "tiny" else of_medium(medium.build(Path(folder) / "model", torch.bfloat16))
        furthest = max(off([*case, *filter(None, words)]) for case in cases)
    print(f"at most {furthest:.0%} off (at most {LIMIT:.0%} is wanted)")
    sys.exit(furthest > LIMIT)


if __name__ == "__main__":
    main()
