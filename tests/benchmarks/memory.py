"""Memory beside what is planned: `python -m tests.benchmarks.memory [GROUP ...] [SETTING=VALUE ...]`.

Groups of runs (memory_cases.py) on a CPU, each by ranks that were just started; with none named all of them. Those of
the FLUX of 1 B random parameters (medium.py) want 10 GB of memory and 2 of disk.

What a rank held at most (the system's VmHWM), and what all ranks held before they decoded (resident.py: pages of a file
that ranks share once), over what launcher/estimates/memory.py says. Ends with 1 where one is more than 15% off.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from launcher.config.compose import Composer
from launcher.estimates import memory
from launcher.machines import here
from launcher.running.checked import request_of
from launcher.running.which_model import with_model
from tests.benchmarks.memory_cases import GROUPS
from tests.benchmarks.resident import ranks, together

SETTINGS = ["runtime=cpu", "runtime.threads=1", "seed=1"]
LIMIT = 0.15


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
                now = together(ranks(child))
                if "decoding ..." not in (folder / "screen").read_text():
                    seen.append(now)
                time.sleep(0.1)
        if child.returncode != 0:
            sys.exit(f"{' '.join(words)}: {(folder / 'screen').read_text()}")
        (path,) = folder.rglob("run.json")
        return Held(list(json.loads(path.read_text())["peak_bytes"]), max(seen))


def off(case: list[str]) -> float:
    """Print a line for a case; return how far what was planned for it is off, at most."""
    composer, words = Composer(), [*SETTINGS, *case]
    request = request_of(with_model(composer.compose(words), composer), words, here())
    needs, loading, seen = memory.of_ranks(request, every=True), memory.while_loading(request), held(words)
    assert loading is not None
    pairs = [*zip((need.total for need in needs), seen.ranks, strict=True), (loading, seen.together)]
    told = [f"{one / 2**20:.0f} MiB planned, {two / 2**20:.0f} held ({two / one - 1:+.0%})" for one, two in pairs]
    print(f"{' '.join(case)}: {'; '.join(told[:-1])}; together before decoding {told[-1]}", flush=True)
    return max(abs(two / one - 1) for one, two in pairs)


def main() -> None:
    """Print a line for each case; exit with 1 if one is off."""
    named = [word for word in sys.argv[1:] if "=" not in word]
    if unknown := set(named) - GROUPS.keys():
        sys.exit(f"{', '.join(sorted(unknown))}: choose from {', '.join(GROUPS)}\n\n{__doc__}")
    more = [word for word in sys.argv[1:] if "=" in word]
    with tempfile.TemporaryDirectory() as folder:
        furthest = max(off([*case, *more]) for name in named or GROUPS for case in GROUPS[name](Path(folder)))
    print(f"at most {furthest:.0%} off (at most {LIMIT:.0%} is wanted)")
    sys.exit(furthest > LIMIT)


if __name__ == "__main__":
    main()
