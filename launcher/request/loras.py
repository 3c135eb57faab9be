"""The LoRAs that a request asks for, by either way to name them: `lora.path=`, or `lora=[{path, scale, name}]`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.config.schema import LoraConfig
from launcher.problems import Problem
from launcher.request.pictures import listed

STACK = "type 'lora=[{path: FILE, scale: 0.8, name: NAME}]'"
KEYS = ("path", "scale", "name")
MOST = 64


@dataclass(frozen=True)
class Lora:
    """One LoRA, applied with strength `scale`; `setting` is what its file is called among the inputs of a record."""

    setting: str
    path: str
    scale: float
    name: str


def loras(config: LoraConfig) -> tuple[Lora, ...]:
    """What is asked for, in the order that it is applied in; nothing where that can't be read: see `flaws`."""
    paths, scales, names = _columns(config)
    if not paths or next(flaws(config), None) is not None:
        return ()  # a scale of 1 needs no LoRA
    several = len(paths) > 1
    return tuple(
        Lora(f"lora.path[{number}]" if several else "lora.path", path, float(scale), name or Path(path).stem)
        for number, (path, scale, name) in enumerate(zip(paths, scales, names, strict=True))
    )


def flaws(config: LoraConfig) -> Iterator[Problem]:
    """Why a configuration asks for no LoRAs that can be told apart and scaled."""
    if config.stack is not None:
        if config.path is not None or config.name is not None:
            other = "path" if config.path is not None else "name"
            rule = f"lora=[...] gives its LoRAs a {other} each"
            yield Problem(f"lora.{other}={getattr(config, other)}", rule, "leave one out")
            return
        if (flaw := _stack_flaw(config.stack)) is not None:
            yield Problem("lora=[...]", flaw, STACK)
            return
    paths, scales, names = _columns(config)
    for scale in scales:
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not math.isfinite(scale):
            yield Problem(f"lora.scale={scale}", "must be a number", "type lora.scale=1")
            return
    if not paths:
        given = {"scale": None if config.scale == 1 else config.scale, "name": config.name}
        for key, value in (given | {"fuse": "true" if config.fuse else None}).items():
            if value is not None:
                what = {"scale": "scales", "name": "names", "fuse": "fuses"}[key] + " a LoRA, and none is given"
                yield Problem(f"lora.{key}={_told(value)}", what, "type lora.path=FILE, or leave it out")
        return
    if len(paths) > MOST:
        yield Problem(f"lora.path=[{paths[0]},...]", f"names {len(paths)} LoRAs; {MOST} at most", "leave some out")
        return
    for key, values, example in (("scale", scales, "0.8"), ("name", names, "NAME")):
        if len(values) != len(paths):
            rule = f"{len(values)} for {len(paths)} LoRAs, and each needs one"
            instead = f"type {shlex.quote(f'lora.{key}=[' + ','.join([example] * len(paths)) + ']')}"
            yield Problem(f"lora.{key}={_told(getattr(config, key))}", rule, instead)
            return
    if twice := next((path for number, path in enumerate(paths) if path in paths[:number]), None):
        yield Problem(f"lora.path={twice}", "is given twice", "give it once, with the scales added up")
    chosen = [name for name in names if name]
    if same := next((name for number, name in enumerate(chosen) if name in chosen[:number]), None):
        yield Problem(f"lora.name={same}", "is given to two LoRAs", "give each a name of its own")
    for name in chosen:
        if len(name) > 64 or not all(char.isalnum() or char in "-_. " for char in name):
            rule = "a name has up to 64 letters, digits, blanks and -_."
            yield Problem(f"lora.name={name}", rule, "type another name, or leave it out")


def settings(config: LoraConfig) -> dict[str, Any]:
    """The configuration of what is asked for, with everything filled in: one spelling for records and recipes."""
    found = loras(config)
    kept: dict[str, Any] = {"path": None, "scale": None, "name": None, "fuse": config.fuse, "stack": None}
    if len(found) == 1:
        kept |= {"path": found[0].path, "scale": found[0].scale, "name": found[0].name}
    elif found:
        kept |= {"path": _list(one.path for one in found), "scale": [one.scale for one in found]}
        kept |= {"name": _list(one.name for one in found)}
    return kept


def _list(items: Iterator[str]) -> str:
    return f"[{','.join(items)}]"


def _columns(config: LoraConfig) -> tuple[list[str], list[Any], list[str]]:
    """The paths, scales and names as they are given, whether or not they are as many."""
    stack = config.stack if isinstance(config.stack, list) and _stack_flaw(config.stack) is None else []
    paths = [] if config.path is None else listed(config.path)
    paths = [str(item["path"]) for item in stack] or paths
    names = [str(item.get("name") or "") for item in stack]
    names = names or ([""] * len(paths) if config.name is None else listed(config.name))
    scales = [item.get("scale", 1.0) for item in stack] or [1.0] * len(paths)
    if config.scale is not None:
        # A list that is worth one number for each; one number is one LoRA's.
        scales = config.scale if isinstance(config.scale, list) else [config.scale]
    return paths, scales, names


def _stack_flaw(stack: object) -> str | None:
    """Why it is no list of LoRAs, as the end of a sentence."""
    if not isinstance(stack, list) or not stack:
        return "must be a list of LoRAs, at least one"
    for number, item in enumerate(stack, 1):
        if not isinstance(item, dict):
            return f"item {number} must have a path, and may have a scale and a name"
        if unknown := [str(key) for key in item if key not in KEYS]:
            return f"item {number} has an unknown key, {unknown[0][:40]}; it may have path, scale and name"
        if not isinstance(item.get("path"), str):
            return f"item {number} has no path"
        if item.get("scale", 1.0) is None or not isinstance(item.get("name", ""), (str, int, float)):
            return f"item {number} has an empty scale, or a name that is no text"
    return None


def _told(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")
