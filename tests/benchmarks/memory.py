"""A rank's peak beside what is planned: `python -m tests.benchmarks.memory [SETTING=VALUE ...]`, some minutes.

flux_tiny on a CPU, alone and on two ranks, whole and in tiles, shared and not, with weights whole and sharded, each by
ranks that were just started: the system's own count (VmHWM) over launcher/estimates/memory.py. Ends with 1 where
a rank is more than 15% off.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from launcher.config.compose import Composer, to_config
from launcher.estimates import memory
from launcher.estimates.ways import resolve
from launcher.machines import here

SETTINGS = ["model=flux_tiny", "runtime=cpu", "runtime.threads=1", "steps=2", "seed=1"]
TILES = ["vae.tiling=true", "vae.tile=256"]
TWO = ["cp=ring_anything", "cp.ring_degree=2"]
SHARDED = ["runtime.weights=sharded"]
SIZES = [(16, 16), (512, 512), (1024, 1024), (2048, 1024)]
LIMIT = 0.15


def cases() -> list[list[str]]:
    """What is run."""
    found = []
    for (height, width), ways in itertools.product(SIZES, (["cp=none"], TWO, [*TWO, *SHARDED])):
        size, several = [f"height={height}", f"width={width}"], ways[:2] == TWO
        tiles = [[], TILES, *([[*TILES, "vae.shared=true"]] if several else [])] if height > 512 else [[]]
        found += [[*size, *ways, *each] for each in tiles]
    return found


def peaks(words: list[str]) -> list[int]:
    """Bytes that each rank held at most."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "launcher", *words]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
        if ended.returncode != 0:
            sys.exit(f"{' '.join(words)}: {ended.stderr}")
        (path,) = Path(folder).rglob("run.json")
        return list(json.loads(path.read_text())["peak_bytes"])


def main() -> None:
    """Print a line for each case; exit with 1 if one is off."""
    composer, machine, furthest = Composer(), here(), 0.0
    for case in cases():
        words = [*SETTINGS, *case, *sys.argv[1:]]
        needs = memory.of_ranks(resolve(to_config(composer.compose(words)), machine))
        told = []
        for need, peak in zip(needs, peaks(words), strict=True):
            off = peak / need.total - 1
            furthest = max(furthest, abs(off))
            told.append(f"{need.total / 2**20:.0f} MiB planned, {peak / 2**20:.0f} held ({off:+.0%})")
        print(f"{' '.join(case)}: {'; '.join(told)}", flush=True)
    print(f"at most {furthest:.0%} off (at most {LIMIT:.0%} is wanted)")
    sys.exit(furthest > LIMIT)


if __name__ == "__main__":
    main()
