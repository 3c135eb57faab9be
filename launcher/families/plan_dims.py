"""The dimensions in a plan against those of the class it is for, as far as running a tiny one showed them.

Nothing is loaded: dims.json keeps what tests/families/dims.py found. A class that is not in it is known when it runs.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from attention_backends.plan import Plan
from launcher.config.model_schema import ModelConfig
from launcher.families import sources
from launcher.problems import Problem

TABLE = Path(__file__).parent / "dims.json"
DEPTH = 2  # named modules from the model down, of which the table knows: list places don't count


@functools.cache
def table() -> Mapping[str, Mapping[str, str]]:
    """By class, "module parameter-or-output": a word for each tensor seen there, a letter for each of its dimensions.

    t counts tokens, 1 has the length 1, - is any other.
    """
    found: dict[str, dict[str, str]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return found


def general(path: str) -> str:
    """A module's path without the places in lists."""
    return ".".join("*" if atom.lstrip("-").isdigit() else atom for atom in path.split("."))


def dim_problems(model: ModelConfig, plan: Plan) -> Iterator[Problem]:
    """Dimensions that a tensor does not have, or that count no tokens."""
    known = table().get(sources.part_of(model.pipeline, next(iter(model.transformers), "")), {})
    for path, splits in plan.split.items():
        for split in splits:
            told = known.get(f"{general(path)} {split.name}", "") if not split.count else ""
            yield from _problem(f"split.{path or 'the model'}", split.name, split.dim, split.ndim, told, split.like)
    for path, gathers in plan.gather.items():
        for number, gather in enumerate(gathers):
            if gather is not None:
                told = known.get(f"{general(path)} {number}", "")
                yield from _problem(f"gather.{path or 'the model'}", number, gather.dim, None, told, ())


def _problem(
    where: str, name: str | int, dim: int, ndim: int | None, told: str, like: tuple[str, ...]
) -> Iterator[Problem]:
    seen = [pattern for pattern in told.split() if ndim in (None, len(pattern))]
    # What follows a stream may have a length of 1, and stays whole. Where none was seen to grow, any may count tokens:
    # HiDream pads a picture to a length of its configuration.
    fits = ("t1" if like else "t") if "t" in told else "t1-"
    if not seen or any(-len(each) <= dim < len(each) and each[dim] in fits for each in seen):
        return
    what = f"output {name}" if isinstance(name, int) else name
    tokens = sorted({axis for each in seen for axis, sign in enumerate(each) if sign == "t"})
    sizes = " or ".join(map(str, sorted({len(each) for each in seen})))
    counts = (
        f"tokens are counted by {' or '.join(map(str, tokens))}" if tokens else "none of them was seen to count tokens"
    )
    yield Problem(
        "model.cp_plan",
        f"{where}: dim={dim}: {what} has {sizes} dimensions, and {counts}",
        f"write dim: {min(tokens, key=lambda axis: abs(axis - dim))}" if tokens else "leave it out",
    )
