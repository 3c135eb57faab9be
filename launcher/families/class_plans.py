"""Plans of transformer classes that no family of conf/model has: a file in plans/ a class, for `model.path=` alone.

Each is proved as those of families are, by tests/families/proof.py.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "plans"


@functools.cache
def names() -> frozenset[str]:
    """The classes that have one."""
    return frozenset(path.stem for path in FOLDER.glob("*.yaml"))


def text(kind: str) -> str:
    """The file of a class; "" for a class without one."""
    return (FOLDER / f"{kind}.yaml").read_text(encoding="utf-8") if kind in names() else ""


def facts(kind: str) -> dict[str, Any]:
    """The fields of ModelConfig that follow from a class: its plan, how its text is split, whether there is a mask.

    Empty for a class without a plan here.
    """
    found: dict[str, Any] = yaml.safe_load(text(kind)) or {}
    return found
