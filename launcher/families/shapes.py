"""A part's configuration against the sizes of its weights, which the headers of its files tell.

A library that meets a contradiction fails after minutes, or leaves layers out without a word. Which numbers of a
configuration decide which sizes is in shapes.json, which tests/families/shapes.py finds by building each class.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_suffix(".json")
Shapes = Mapping[str, tuple[int, ...]]
Rows = Mapping[str, Mapping[str, Any]]


@functools.cache
def table() -> dict[str, Rows]:
    """By class: `sizes` are products, {"weight axis": [factor, key ...]}, and `blocks` counts, {"list of blocks": key}.

    A key with a point, `block_out_channels.3`, is one member of a list.
    """
    found: dict[str, Rows] = json.loads(TABLE.read_text(encoding="utf-8"))
    return found


def misfits(kind: str, config: Mapping[str, Any], shapes: Shapes) -> Iterator[str]:
    """What a class's configuration says that its weights contradict, each the end of a sentence."""
    for _, told in contradictions(table().get(kind, {"sizes": {}, "blocks": {}}), config, shapes):
        yield told


def contradictions(rows: Rows, config: Mapping[str, Any], shapes: Shapes) -> Iterator[tuple[str, str]]:
    """The rows that don't hold, by their names, and what to say of each. A row that names what isn't there holds."""
    for row, (factor, *keys) in list(rows["sizes"].items()):
        weight, axis = row.split(" ")
        values = [_value(config, key) for key in keys]
        shape = shapes.get(weight) or next((shapes[name] for name in shapes if name.endswith(f".{weight}")), ())
        if len(shape) <= int(axis) or not all(type(value) is int for value in values):
            continue
        if factor * math.prod(values) != shape[int(axis)]:
            told = " and ".join(f"{_shown(key)}={value}" for key, value in zip(keys, values, strict=True))
            yield row, f"says {told}, and the weights are of another size: {weight} has {list(shape)}"
    counted = _counts(shapes)
    for row, key in list(rows["blocks"].items()):
        value = _value(config, key)
        here = counted.get(row) or next((counted[name] for name in counted if name.endswith(f".{row}")), None)
        if here is not None and type(value) is int and value != here:
            yield row, f"says {_shown(key)}={value}, and the weights have {here} {row}"


def _value(config: Mapping[str, Any], key: str) -> Any:
    name, _, place = key.partition(".")
    value = config.get(name)
    if not place:
        return value
    return value[int(place)] if isinstance(value, list | tuple) and int(place) < len(value) else None


def _shown(key: str) -> str:
    """`block_out_channels[3]`."""
    return re.sub(r"\.(\d+)$", r"[\1]", key)


def _counts(shapes: Shapes) -> dict[str, int]:
    """How many members each list of blocks has."""
    members: dict[str, set[str]] = {}
    for name in shapes:
        for match in re.finditer(r"\.(\d+)\.", name):
            members.setdefault(name[: match.start()], set()).add(match[1])
    return {prefix: len(found) for prefix, found in members.items()}
