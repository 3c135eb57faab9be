"""Random cases against the definition, on real ranks that are watched for hangs:

    python -m tests.attention_backends.fuzz --seed 1 --cases 500

Attentions and their gradients, whole models in every mode, and models with a fault on one rank. A case is right (equal
to one process), or refused on every rank alike for a reason that is one; after a fault every rank is told of it, within
DEADLINE, and the next forward but one is right again. It prints what is not so, with the line that repeats it, and
exits 1. tests/attention_backends/test_fuzz.py runs a sample.
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
from faults import BLOCKS, FAULT, exact, faulty
from ranks import LARGEST, Ranks

from attention_backends.catalog import MODES
from attention_backends.layout import split_lengths

LIMITS = {"float64": 1e-11, "float32": 3e-5}
DEADLINE = 30.0  # seconds: no case takes so long but one that hangs


@dataclass
class Case:
    """What runs on `world` ranks. refused: words of the only errors that are right; none if there must be none."""

    call: Callable[..., Any]
    world: int
    arguments: dict[str, Any] = field(default_factory=dict)
    refused: tuple[str, ...] = ()

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
    refused: tuple[str, ...] = ()
    if mask is not None and mask.startswith("2d") and batch > 1 and set(queries) == {batch}:
        refused = ("it could be (B, keys) or (queries, keys)",)
    arguments = {
        "ring": ring,
        "ulysses": world // ring,
        "algorithm": chance.choice(["unified", "unified", "attention2d"]),
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


def _modes(chance: random.Random, largest: int) -> tuple[int, dict[str, Any]]:
    """A number of ranks, and arguments of `enable` for them."""
    mode = MODES[chance.choice([mode.name for mode in MODES.values() if mode.parallel])]
    ring = chance.randint(2, largest) if mode.ring == "many" else 1
    ulysses = chance.randint(2, largest) if mode.ulysses == "many" else 1
    if mode.algorithm == "attention2d":
        ring, ulysses = chance.choice([(2, 2), (3, 2), (2, 3)])
    if mode.ring == "any":
        ring, ulysses = chance.choice([(2, 1), (1, 2), (3, 1), (1, 3), (2, 2), (3, 2), (2, 3), (5, 1), (1, 7)])
    while ring * ulysses > largest:
        ring, ulysses = (ring - 1, ulysses) if ring > ulysses else (ring, ulysses - 1)
    schedule = chance.choice(["auto", "gather", "staged"]) if mode.scheduled else "auto"
    found = {"mode": mode.name, "ring_degree": ring, "ulysses_degree": ulysses, "schedule": schedule}
    if not mode.even and chance.random() < 0.3:
        found["shares"] = [chance.choice([1, 1, 2, 3, 8]) for _ in range(ring * ulysses)]
    return ring * ulysses, found


def _size(chance: random.Random, model: str, most: int) -> list[int]:
    if model in ("wan", "ltx"):
        return [chance.randint(1, 3), chance.randint(1, 2), chance.randint(1, most), chance.randint(1, most)]
    return [chance.randint(1, 2 * most), chance.randint(1, most)]


def model_case(chance: random.Random) -> Case:
    model = chance.choice(list(BLOCKS))
    world, arguments = _modes(chance, LARGEST)
    mode, size = MODES[arguments["mode"]], _size(chance, model, 2 * world)
    drawn, text = (size[0] * size[1] * size[2], size[3]) if len(size) == 4 else (size[0], size[1])
    streams = [drawn] if model == "wan" else [drawn, text]
    refused = []
    if mode.even and any(total % world for total in streams):
        refused.append("needs a multiple of")
    if mode.heads_divide and 4 % arguments["ulysses_degree"]:
        refused.append("does not divide the model's 4 heads")
    masked = model in ("qwen", "ltx") and chance.random() < 0.5
    if (model == "ltx" or (masked and model == "qwen")) and not mode.masks:
        refused.append("takes no attention mask")
    if model == "ltx" and 0 in split_lengths(text, world, tuple(arguments.get("shares", ()))):
        refused.append("this model needs one on each")
    return Case(exact, world, {"model": model, "size": size, "arguments": arguments, "masked": masked}, tuple(refused))


# What the ranks are given differently, and what one of them does that the others do not.
DIFFERENT = ("batch", "lengths", "dtype", "timestep", "mask", "mode", "kernel")
APART = ("skip", "absent")


def fault_case(chance: random.Random) -> Case:
    fault = chance.choice([*DIFFERENT, *APART, "raise", "raise", "raise", "backward"])
    model = "qwen" if fault == "mask" else chance.choice(list(BLOCKS))
    world, arguments = _modes(chance, 4)
    mode = MODES[arguments["mode"]]
    if mode.even or mode.heads_divide or not mode.masks:  # what they refuse is model_case's to see
        arguments |= {"mode": "unified_anything"}
    arguments.pop("shares", None)  # which may leave a rank without what a fault needs
    if fault == "mode":
        arguments |= {"schedule": "gather"}
    size = [2, 2, 3, world + 1] if model in ("wan", "ltx") else [2 * world + 1, world + 2]
    more = {"fault": fault, "who": chance.randrange(world), "at": round(chance.random(), 3)}
    return Case(faulty, world, {"model": model, "size": size, "arguments": arguments, **more})


KINDS: tuple[Callable[[random.Random], Case], ...] = (attention_case, model_case, fault_case)


def draw(seed: int, cases: int) -> Iterator[Case]:
    """The same cases for the same seed; a longer run starts with those of a shorter one."""
    for number in range(cases):
        chance = random.Random(f"{seed}-{number}")
        yield chance.choice(KINDS)(chance)


def wrong(case: Case, ranks: Ranks) -> str:
    """What is wrong with a case, "" if nothing."""
    if case.refused:
        errors = ranks.errors(case.call, case.world, deadline=DEADLINE, **case.arguments)
        alike = any(all(error is not None and words in error for error in errors) for words in case.refused)
        return "" if alike else f"expected a refusal with {' or '.join(case.refused)}, got {errors}"
    try:
        results = ranks.run(case.call, case.world, deadline=DEADLINE, **case.arguments)
    except AssertionError as failure:
        return str(failure)
    if case.call is exact:
        limit = 1e-6 if case.arguments["model"] in ("wan", "ltx") else 1e-10  # these make some float32 of their own
        return f"off by {max(results)}" if not max(results) < limit else ""
    if case.call is faulty:
        return untold([one["outcomes"] for one in results], case.arguments["fault"], case.arguments["who"])
    limit = LIMITS[case.arguments.get("dtype", "float64")]
    for result in results:
        # float32 keeps a logit of M to within M 2^-24, which is the relative error of its weight
        here = max(limit, (2**-20 if limit > 1e-6 else 2**-49) * result["logits"])
        far = {name: result[name] for name in ("forward", "dq", "dk", "dv") if not result[name] <= here}
        if far:
            return f"off by {far}, allowed {here:.0e}"
    return ""


def untold(outcomes: list[list[str]], fault: str, who: int) -> str:
    """What is wrong with how a fault of one rank came out, by ranks and turns; "" if nothing."""
    told, others = f"; outcomes: {outcomes}", [one for rank, one in enumerate(outcomes) if rank != who]
    if any(words.startswith("wrong") for one in outcomes for words in one):
        return f"a wrong number{told}"
    if fault not in ("mode", "kernel") and any(one[-1] != "right" for one in outcomes):
        return f"not right again{told}"
    mine = [words for words in outcomes[who] if words != "right"]
    if fault in ("raise", "backward") and not mine:  # the place is not in the way of a forward
        return "" if all(words == "right" for one in others for words in one) else f"errors without a fault{told}"
    for one in others:
        errors = [words for words in one if words != "right"]
        if not errors and fault != "backward":  # which may be over for this rank
            return f"a rank that was not told{told}"
        cause = f"rank {who} failed: {FAULT}" if fault == "raise" else ""
        if fault in (*APART, "backward"):
            cause = "RankFailedError: the ranks run apart and wait for each other"
        if fault in DIFFERENT and not (mine[0] == errors[0] or f"rank {who} failed: {mine[0]}" in errors[0]):
            return f"another cause{told}"
        if errors and cause not in errors[0]:
            return f"no cause{told}"
    return "" if mine else f"the rank itself was not told{told}"


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
