"""run.json's JSON Schema (draft 2020-12), made from its dataclasses: `python -m launcher.records.json_schema`.

It is the file run.schema.json beside this one, for programs that read records without this package.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from launcher.records.record import SCHEMA, Record

FILE = Path(__file__).with_name("run.schema.json")
SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}


def schema() -> dict[str, Any]:
    """The schema of a record of this version."""
    found = of(Record)
    found["properties"]["schema"] = {"const": SCHEMA}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"run.json of ring-anything-launcher, schema {SCHEMA}",
        "description": " ".join((Record.__doc__ or "").split()),
        **found,
    }


def of(hint: Any) -> dict[str, Any]:
    """The schema of what codec writes for a value of this type."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is object:
        return {}
    if origin in (Union, types.UnionType):
        return {"anyOf": [of(kind) for kind in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple and inner[1:] == (Ellipsis,):
        return {"type": "array", "items": of(inner[0])}
    if origin is tuple:
        return {"type": "array", "prefixItems": [of(kind) for kind in inner], "items": False, "minItems": len(inner)}
    if origin is dict:
        return {"type": "object", "additionalProperties": of(inner[1])}
    if dataclasses.is_dataclass(hint):
        return _object(hint)
    return {"type": SCALARS[hint]}


def _object(kind: Any) -> dict[str, Any]:
    hints, missing = typing.get_type_hints(kind), dataclasses.MISSING
    fields = dataclasses.fields(kind)
    needed = [field.name for field in fields if field.default is missing and field.default_factory is missing]
    return {
        "type": "object",
        "properties": {field.name: of(hints[field.name]) for field in fields},
        "required": needed,
        "additionalProperties": False,
    }


def text() -> str:
    """The file's content."""
    return json.dumps(schema(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
