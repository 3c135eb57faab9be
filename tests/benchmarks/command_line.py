"""CPU time of a refusal and of a plan, beside importing Hydra alone, in turns.

python -m tests.benchmarks.command_line [--json]     # CPU time: other programs on the cores matter little

Compiled files are kept in a folder of its own, as an installation has them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TURNS = 7
HYDRA = ["-c", "import hydra.main"]
CONF = Path(__file__).parent.parent.parent / "conf"
# Hydra's own share: a program that composes the same files and does nothing, with Hydra's public API alone.
BARE = f"""
import sys
import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from launcher.config.schema import LaunchConfig
ConfigStore.instance().store("launch_schema", LaunchConfig)
OmegaConf.register_new_resolver("short_id", lambda: "0")
sys.argv = ["x", "hydra.output_subdir=null", "hydra.run.dir=."]
hydra.main(version_base="1.3", config_path={str(CONF)!r}, config_name="config")(lambda _: None)()
"""
LINES = {
    "Hydra composing conf/": ["-c", BARE],
    "a refused word": ["-m", "launcher", "heigth=3"],
    "a refused option": ["-m", "launcher", "plan", "machine=h100x9"],
    "a refused size": ["-m", "launcher", "height=-3"],
    "the mission's line, refused": ["-m", "launcher", "model=flux", "cp=ring_anything", "height=1000"],
    "the help": ["-m", "launcher", "--help"],
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
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
        if not args.json:
            print(f"{name:<30} {told[name]['seconds']:.3f} s  {told[name]['ratio']:.2f}")
    if args.json:
        print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
