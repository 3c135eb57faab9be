"""What warm ranks are worth: `python -m tests.benchmarks.warm`, two minutes on two cores with nothing else running.

Eight pictures in one sweep against eight runs, and the launcher's own time in a warm job: from one job's line on the
screen to the next one's, less what the ranks generated and saved meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LAUNCHER = [sys.executable, "-m", "launcher"]
SETTINGS = ["model=flux_tiny", "cp=ring_anything", "runtime=cpu", "height=256", "width=256"]
ENV = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent.parent)}


def own_times(folder: Path, jobs: int) -> tuple[float, list[float]]:
    """Run a sweep; its seconds, and the launcher's own seconds in each job but the first, which starts the ranks."""
    seeds = ",".join(map(str, range(jobs)))
    began = time.perf_counter()
    sweep = subprocess.Popen(
        [*LAUNCHER, "-m", *SETTINGS, f"seed={seeds}"], cwd=folder, env=ENV, stdout=subprocess.PIPE, text=True
    )
    assert sweep.stdout is not None
    ended = [time.perf_counter() for line in sweep.stdout if line.startswith("[")]
    if sweep.wait() != 0:
        sys.exit("the sweep failed")
    seconds = time.perf_counter() - began
    own = []
    for record in folder.rglob("run.json"):
        number = int(record.parent.name)
        times = json.loads(record.read_text())["times"]
        if number > 0:
            own.append(ended[number] - ended[number - 1] - times["denoise"] - times["decode"] - times["save"])
    return seconds, own


def main() -> None:
    """Print both figures and the machine they were measured on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--only-own", action="store_true", help="leave out the separate runs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sweep, own = own_times(Path(folder), args.jobs)
        print(f"{platform.machine()}, {os.cpu_count()} CPU cores, Python {platform.python_version()}")
        print(f"{args.jobs} jobs in one sweep: {sweep:.1f} s")
        print(f"own time of a warm job: median {statistics.median(own):.3f} s, most {max(own):.3f} s")
        if args.only_own:
            return
        began = time.perf_counter()
        for seed in range(args.jobs):
            words = [*LAUNCHER, *SETTINGS, f"seed={seed}"]
            subprocess.run(words, cwd=folder, env=ENV, check=True, capture_output=True)
        alone = time.perf_counter() - began
    print(f"{args.jobs} separate runs: {alone:.1f} s, {alone / sweep:.1f} times as long")


if __name__ == "__main__":
    main()
