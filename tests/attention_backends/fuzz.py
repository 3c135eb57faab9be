"""Random cases against the definition, on real ranks that are watched for hangs:

    python -m tests.attention_backends.fuzz --seed 1 --cases 500

A case is right (forward and gradients equal float64), or refused on every rank alike for a reason that is one. It
prints what is neither, with the line that repeats it, and exits 1. tests/attention_backends/test_fuzz.py runs a sample.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "helpers"))

from cases import MASKS, attention
from ranks import LARGEST, Ranks

LIMITS = {"float64": 1e-11, "float32": 3e-5}


@dataclass
class Case:
    """What runs on `world` ranks. refused: words of the only error that is right; "" if there must be none."""

    call: Callable[..., Any]
    world: int
    arguments: dict[str, Any] = field(default_factory=dict)
    refused: str = ""

    def __str__(self) -> str:
        return f"{self.call.__name__} on {self.world} ranks: {self.arguments}"


def lengths(chance: random.Random, world: int, batch: int) -> list[int]:
    """Tokens of each rank: as splits give them, ragged, or such that they coincide with something."""
    kind = chance.choice(["split", "ragged", "ones", "batch", "few", "one rank"])
    if kind == "split":
        each, more = divmod(chance.randint(0, 6 * world), world)
        return [each + (rank < more) for rank in range(world)]
    if kind == "ones":
        return [1] * world
    if kind == "batch":
        return [chance.choice([batch, batch, batch + 1]) for _ in range(world)]
    if kind == "few":
        return [chance.choice([0, 1]) for _ in range(world)]
    if kind == "one rank":
        held = [0] * world
        held[chance.randrange(world)] = chance.randint(1, 9)
        return held
    return [chance.choice([0, 1, 2, 3, 5, 9, 300 if chance.random() < 0.1 else 4]) for _ in range(world)]


def attention_case(chance: random.Random) -> Case:
    world = chance.randint(1, LARGEST)
    ring = chance.choice([degree for degree in range(1, world + 1) if world % degree == 0])
    batch, key_heads, group = chance.randint(1, 3), chance.randint(1, 3), chance.randint(1, 3)
    queries = lengths(chance, world, batch)
    keys = queries if chance.random() < 0.5 else lengths(chance, world, batch)
    mask = chance.choice([None, *MASKS])
    per_query = mask is not None and ("rows" in mask or mask == "causal lowest")
    refused = ""
    if mask is not None and mask.startswith("2d") and batch > 1 and set(queries) == {batch}:
        refused = "it could be (B, keys) or (queries, keys)"
    arguments = {
        "ring": ring,
        "ulysses": world // ring,
        "q_lengths": queries,
        "k_lengths": keys,
        "heads": key_heads * group,
        "key_heads": key_heads,
        "batch": batch,
        "dtype": chance.choice(["float64", "float64", "float32"]),
        "mask": mask,
        "local_mask": mask is not None and not per_query and chance.random() < 0.5,
        "is_causal": chance.random() < 0.25,
        "scale": chance.choice([None, 0.3]),
        "strided": chance.random() < 0.3,
        "schedule": chance.choice(["auto", "gather", "staged"]),
        "kernel": chance.choice(["auto", "native", "_native_math"]),
        "value_dim": chance.choice([8, 8, 8, 5]),
    }
    return Case(attention, world, arguments, refused)


KINDS: tuple[Callable[[random.Random], Case], ...] = (attention_case,)


def draw(seed: int, cases: int) -> Iterator[Case]:
    """The same cases for the same seed; a longer run starts with those of a shorter one."""
    for number in range(cases):
        chance = random.Random(f"{seed}-{number}")
        yield chance.choice(KINDS)(chance)


def wrong(case: Case, ranks: Ranks) -> str:
    """What is wrong with a case, "" if nothing."""
    if case.refused:
        errors = ranks.errors(case.call, case.world, **case.arguments)
        alike = all(error is not None and case.refused in error for error in errors)
        return "" if alike else f"expected a refusal with {case.refused!r}, got {errors}"
    try:
        results = ranks.run(case.call, case.world, **case.arguments)
    except AssertionError as failure:
        return str(failure)
    limit = LIMITS[case.arguments.get("dtype", "float64")]
    for result in results:
        # float32 keeps a logit of M to within M 2^-24, which is the relative error of its weight
        here = max(limit, (2**-20 if limit > 1e-6 else 2**-49) * result["logits"])
        far = {name: result[name] for name in ("forward", "dq", "dk", "dv") if not result[name] <= here}
        if far:
            return f"off by {far}, allowed {here:.0e}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attention_backends.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--only", type=int, help="run the case of this number alone")
    words = parser.parse_args()
    ranks, bad = Ranks(), 0
    for number, case in enumerate(draw(words.seed, words.cases if words.only is None else words.only + 1)):
        if words.only in (None, number) and (problem := wrong(case, ranks)):
            bad += 1
            print(f"case {number} (--seed {words.seed} --only {number}): {case}\n  {problem}\n", flush=True)
    ranks.stop()
    print(f"{words.cases if words.only is None else 1} cases, {bad} wrong")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
