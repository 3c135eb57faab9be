"""A warm step of two ranks with and without torch.compile: `python -m tests.benchmarks.compiled`.

Wants two idle cores. The first job of each way compiles and is not counted; its seconds of compiling are printed.
"""

from __future__ import annotations

import argparse
import statistics

import launcher
from launcher.compiling import WAYS

WORDS = ("runtime=cpu", "runtime.threads=1", "cp=ring_anything", "cp.ring_degree=2", "steps=6", "seed=1")
SIZE = 384  # pixels of a side
TURNS = 5


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    """Print the median step of each way in each turn, and how they compare with eager ones."""
    steps: dict[str, list[float]] = {}
    for how in WAYS:
        with launcher.Pool(*WORDS, f"compile={how}", f"height={SIZE}", f"width={SIZE}") as pool:
            first = pool.run().record["times"]
            print(f"compile={how:<9} compiling {first.get('compile', 0.0):6.1f} s", flush=True)
            steps[how] = []
            for _ in range(TURNS):
                timed = pool.run().record["step_seconds"][0]
                steps[how].append(statistics.median(timed[1:]))
    for how, each in steps.items():
        median = statistics.median(each)
        told = f"{median:.3f} s ({min(each):.3f} to {max(each):.3f})"
        print(f"compile={how:<9} a step {told}, {median / statistics.median(steps['none']):.2f} of eager")


if __name__ == "__main__":
    main()
