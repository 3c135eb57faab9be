"""Which dimensions of what a class's modules are given, and give, count tokens: found by running tiny ones.

    python tests/families/dims.py     # writes launcher/families/dims.json

A dimension that grows with the picture or the text counts tokens (t), others do not (-); 1 is one that a tensor keeps
whole where the plan cuts it (1).
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# ruff: noqa: E402  (the helpers are found by path)
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

import torch
from inputs import Size
from miniatures import TINY

from launcher.families.plan_dims import DEPTH, TABLE, general

BASE = Size(2, 3, 5, 7, batch=2)
SIZES = (BASE, replace(BASE, frames=4), replace(BASE, height=8, width=8), replace(BASE, text=40))
Seen = dict[tuple[str, str], list[list[tuple[int, ...]]]]  # (module, parameter or output): tensors of each call


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """What a plan's entry would cut: the tensor, or all of a tuple, list or dict."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)
    elif isinstance(value, dict):
        yield from tensors(list(value.values()))


def seen(name: str, size: Size) -> Seen:
    """The shapes of all that the modules of a tiny transformer are given and give."""
    model, found = TINY[name].build(), Seen()

    def note(path: str, module: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        names = list(inspect.signature(type(module).forward).parameters)[1:]
        given = dict(zip(names, args, strict=False)) | kwargs
        outputs = [output] if isinstance(output, torch.Tensor) else output if isinstance(output, list | tuple) else []
        for key, value in [*given.items(), *((str(number), each) for number, each in enumerate(outputs))]:
            if told := [tuple(x.shape) for x in tensors(value)]:
                found.setdefault((path, key), []).append(told)

    for path, module in model.named_modules():
        if len([atom for atom in path.split(".") if not atom.isdigit()]) <= DEPTH:
            module.register_forward_hook(partial(note, path), with_kwargs=True)
    with torch.no_grad():
        model(**TINY[name].given(size))
    return found


def patterns(name: str) -> Iterator[tuple[str, str, str]]:
    """Module, parameter or output, and how each dimension of a tensor there is: several where it differs."""
    base, *others = (seen(name, size) for size in SIZES)
    for (path, key), calls in base.items():
        for call, shapes in enumerate(calls):
            for place, shape in enumerate(shapes):
                grown = set()
                for other in others:
                    told = other.get((path, key), [])
                    again = told[call] if len(told) == len(calls) and len(told[call]) == len(shapes) else shapes
                    if len(again[place]) == len(shape):
                        grown |= {axis for axis, length in enumerate(shape) if again[place][axis] != length}
                signs = ("t" if axis in grown else "1" if n == 1 else "-" for axis, n in enumerate(shape))
                yield general(path), key, "".join(signs)


def table() -> str:
    """The whole file."""
    found: dict[str, dict[str, set[str]]] = {}
    for name, tiny in TINY.items():
        for path, key, pattern in patterns(name):
            found.setdefault(tiny.kind, {}).setdefault(f"{path} {key}", set()).add(pattern)
    rows = {
        kind: {place: " ".join(sorted(told)) for place, told in sorted(places.items())}
        for kind, places in sorted(found.items())
    }
    return written(rows)


def written(rows: Mapping[str, Mapping[str, str]]) -> str:
    """JSON, a line a class."""
    lines = [f"{json.dumps(kind)}: {json.dumps(places, separators=(',', ':'))}" for kind, places in rows.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    TABLE.write_text(table(), encoding="utf-8")
