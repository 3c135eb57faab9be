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
    """By class: what its weights tell of its configuration.

    `sizes` are products, {"weight axis": [factor, key ...]}, `blocks` counts, {"list of blocks": key}, and `present`
    conditions, {"weight": key}; `defaults` are what the class makes of a key that is left out. A key with a point,
    `block_out_channels.3`, is one member of a list, and `down_block_types.` how many it has.
    """
    found: dict[str, Rows] = json.loads(TABLE.read_text(encoding="utf-8"))
    return found


def whole(kind: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration with what its class makes of keys that are left out, as far as that is in the table."""
    return {**table().get(kind, {}).get("defaults", {}), **config}


def misfits(kind: str, config: Mapping[str, Any], shapes: Shapes) -> Iterator[str]:
    """What a class's configuration says that its weights contradict, each the end of a sentence."""
    for _, told in contradictions(table().get(kind, {}), config, shapes):
        yield told


def contradictions(rows: Rows, config: Mapping[str, Any], shapes: Shapes) -> Iterator[tuple[str, str]]:
    """The rows that don't hold, by their names, and what to say of each. A row that names what isn't there holds."""
    values = {**rows.get("defaults", {}), **config}

    def said(*keys: str) -> str:
        told = (f"{key}={_value(values, key)}" + ("" if _name(key) in config else " by default") for key in keys)
        return "says " + re.sub(r"\.(\d+)=", r"[\1]=", re.sub(r"\.=", " of a length=", " and ".join(told)))

    for row, (factor, *keys) in rows.get("sizes", {}).items():
        weight, axis = row.split(" ")
        known, shape = [_value(values, key) for key in keys], _shape(shapes, weight)
        if shape is None or len(shape) <= int(axis) or not all(type(value) is int for value in known):
            continue
        if factor * math.prod(known) != shape[int(axis)]:
            yield row, f"{said(*keys)}, and the weights are of another size: {weight} has {list(shape)}"
    counted = _counts(shapes)
    for row, key in rows.get("blocks", {}).items():
        value = _value(values, key)
        here = counted.get(row) or next((counted[name] for name in counted if name.endswith(f".{row}")), None)
        if here is not None and type(value) is int and value != here:
            yield row, f"{said(key)}, and the weights have {here} {row}"
    for row, key in rows.get("present", {}).items():
        value = _value(values, key)
        if type(value) is bool and value != (_shape(shapes, row) is not None):
            yield row, f"{said(key)}, and the weights have {'no' if value else 'a'} {row}"


def _shape(shapes: Shapes, weight: str) -> tuple[int, ...] | None:
    """A weight's sizes, perhaps within something larger."""
    return shapes.get(weight) or next((shapes[name] for name in shapes if name.endswith(f".{weight}")), None)


def _name(key: str) -> str:
    return key.partition(".")[0]


def _value(config: Mapping[str, Any], key: str) -> Any:
    name, point, place = key.partition(".")
    value = config.get(name)
    if not point:
        return value
    if not isinstance(value, list | tuple):
        return None
    if not place:
        return len(value)
    return value[int(place)] if int(place) < len(value) else None


def _counts(shapes: Shapes) -> dict[str, int]:
    """How many members each list of blocks has."""
    members: dict[str, set[str]] = {}
    for name in shapes:
        for match in re.finditer(r"\.(\d+)\.", name):
            members.setdefault(name[: match.start()], set()).add(match[1])
    return {prefix: len(found) for prefix, found in members.items()}
