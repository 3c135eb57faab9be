"""A step with classifier-free guidance on one rank, and on two that compute a branch each, one thread a rank, in turns.

python -m tests.benchmarks.guidance     # wants two idle cores
"""

from __future__ import annotations

import argparse
import statistics

import launcher

WORDS = (
    "runtime=cpu",
    "height=512",
    "width=512",
    "steps=6",
    "seed=1",
    "model.true_cfg=3",
    "runtime.threads=1",
    "cp=none",
)
TURNS = 5


def pace(pool: launcher.Pool) -> float:
    """Seconds of a step; the first one, in which the two halves tell each other of shapes, is left out."""
    return statistics.median(pool.run().record["step_seconds"][0][1:])


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with launcher.Pool(*WORDS) as one, launcher.Pool(*WORDS, "cp.cfg_degree=2") as two:
        pace(one), pace(two)  # they load
        for _ in range(TURNS):
            alone, together = pace(one), pace(two)
            print(
                f"one rank {alone:.3f} s a step, two halves {together:.3f} s: {together / alone:.2f} of it", flush=True
            )


if __name__ == "__main__":
    main()
