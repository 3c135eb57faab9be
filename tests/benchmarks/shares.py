"""Ranks of unequal speed, one with two threads and one with one: even shares against cp.shares=auto, in turns.

python -m tests.benchmarks.shares     # wants two idle cores, and root: it makes two control groups below the CPU's

Three cores of one speed are made of two: each thread may use half of a core. The rank with two threads has the quota of
a whole core for both, the other rank that of half a core, in periods so short that an exchange does not wait for one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

import psutil

import launcher
from tests.shared import group

WORDS = (
    "runtime=cpu",
    "cp=ring_anything",
    "height=768",
    "width=768",
    "steps=5",
    "seed=1",
    "runtime.threads=[2,1]",
)
TURNS = 5
PERIOD = 4000  # us
ROOT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def limited(processes: dict[int, psutil.Process], threads: list[int]) -> Iterator[None]:
    """Let each rank use half of a core for each of its threads, while the block runs."""
    old = (ROOT / "cpu" / "cpu.cfs_quota_us").exists()  # control groups of version 1
    made = []
    try:
        for rank, process in processes.items():
            place = (ROOT / "cpu" if old else ROOT) / f"launcher-shares-{os.getpid()}-{rank}"
            place.mkdir()
            made.append(place)
            quota = threads[rank] * PERIOD // 2
            if old:
                (place / "cpu.cfs_period_us").write_text(str(PERIOD))
                (place / "cpu.cfs_quota_us").write_text(str(quota))
            else:
                (place / "cpu.max").write_text(f"{quota} {PERIOD}")
            (place / "cgroup.procs").write_text(str(process.pid))
        yield
    finally:
        for place in made:
            for pid in (place / "cgroup.procs").read_text().split():
                (place.parent / "cgroup.procs").write_text(pid)
            place.rmdir()


def pace(pool: launcher.Pool, *words: str) -> float:
    """Seconds of a step."""
    return statistics.median(pool.run(*words).record["step_seconds"][0][1:])


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    even, auto = "cp.shares=null", "cp.shares=auto"
    with launcher.Pool(*WORDS) as pool:
        pool.run(even)  # the ranks load
        ratios = []
        with limited(group(psutil.Process()).ranks, [2, 1]):
            pace(pool, auto)
            for _ in range(TURNS):
                one, other = pace(pool, even), pace(pool, auto)
                ratios.append(other / one)
                print(f"even shares {one:.3f} s a step, auto {other:.3f} s: {ratios[-1]:.2f} of it", flush=True)
        print(f"median {statistics.median(ratios):.2f}; shares {pool.run(auto).record['config']['cp']['shares']}")


if __name__ == "__main__":
    main()
