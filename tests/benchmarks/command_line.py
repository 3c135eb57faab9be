"""CPU time of a refusal and of a plan, beside importing Hydra alone, in turns.

python -m tests.benchmarks.command_line [--json]     # CPU time: other programs on the cores matter little

Compiled files are kept in a folder of its own, as an installation has them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile

TURNS = 7
HYDRA = ["-c", "import hydra.main"]
LINES = {
    "a refusal": ["-m", "launcher", "height=0"],
    "a plan": ["-m", "launcher", "plan"],
    "a plan of FLUX on eight GPUs": ["-m", "launcher", "plan", "machine=h100x8", "model=flux", "height=1000"],
}


def cpu_seconds(words: list[str], environment: dict[str, str]) -> float:
    """User and system time of this Python with these words."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, *words], env=environment, **quiet)
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0  # it was waited for
    return used.ru_utime + used.ru_stime


def main() -> None:
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        taken: dict[str, list[float]] = {name: [] for name in ("import hydra.main", *LINES)}
        for turn in range(TURNS + 1):
            for name, words in {"import hydra.main": HYDRA, **LINES}.items():
                seconds = cpu_seconds(words, environment)
                if turn:  # the first one compiles
                    taken[name].append(seconds)
    alone = taken["import hydra.main"]
    for name, seconds in taken.items():
        ratios = [one / hydra for one, hydra in zip(seconds, alone, strict=True)]
        told[name] = {"seconds": statistics.median(seconds), "ratio": statistics.median(ratios)}
        if "--json" not in sys.argv:
            print(f"{name:<30} {told[name]['seconds']:.3f} s  {told[name]['ratio']:.2f}")
    if "--json" in sys.argv:
        print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
