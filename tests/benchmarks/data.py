"""A sweep of eight small jobs by one group of two ranks, and by two groups of one rank at once, warm, in turns.

python -m tests.benchmarks.data     # wants two idle cores
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from launcher.config.compose import Composer
from launcher.running.session import Session

WORDS = ["runtime=cpu", "height=256", "width=256"]
ONE, TWO = ["cp=ring_anything", "cp.ring_degree=2"], ["cp=none", "data=2"]
JOBS, TURNS = 8, 5


def seconds(session: Session, words: list[str], folder: Path, jobs: int = JOBS) -> float:
    """How long a sweep takes, its table, contact sheet and report included."""
    seeds = ",".join(map(str, range(jobs)))
    began = time.perf_counter()
    if session.sweep([*WORDS, *words, f"seed={seeds}", f"hydra.sweep.dir={folder / str(began)}"]).failed:
        raise SystemExit("the sweep failed")
    return time.perf_counter() - began


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as made, Session(Composer()) as one, Session(Composer()) as two:
        folder = Path(made)
        cold = seconds(one, ONE, folder), seconds(two, TWO, folder)
        print(f"the first sweep, which starts the ranks: one group {cold[0]:.1f} s, two groups {cold[1]:.1f} s")
        for _ in range(TURNS):
            together, apart = seconds(one, ONE, folder), seconds(two, TWO, folder)
            ratios.append(apart / together)
            print(f"one group of two {together:.2f} s, two groups of one {apart:.2f} s: {ratios[-1]:.2f}", flush=True)
    print(f"median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
