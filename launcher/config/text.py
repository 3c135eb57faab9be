"""Text is text: a setting that is a string reaches the model as it was typed.

Hydra reads `prompt=1.10` as a number, `prompt=a cat, sitting` as a list and `prompt=a (cat)` not at all. Words whose
setting is a string are quoted here, in Hydra's own way, wherever Hydra would make something else of them.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from launcher.config.schema import LaunchConfig

PROMPTS = ("prompt", "negative_prompt")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|' + r"'(?:[^'\\]|\\.)*'", re.DOTALL)
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
MAX_DEPTH = 50  # brackets within brackets; Hydra takes seconds for some thousand
MAX_BACKSLASHES = 1000  # in a row, likewise


@functools.cache
def fields(schema: type = LaunchConfig, prefix: str = "") -> dict[str, dataclasses.Field[Any]]:
    """Every setting by its dotted name, with its dataclass field."""
    found = {}
    for field in dataclasses.fields(schema):
        nested = field.default_factory
        if isinstance(nested, type) and dataclasses.is_dataclass(nested):
            found |= fields(nested, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = field
    return found


def is_text(name: str) -> bool:
    """Whether a setting is a string."""
    return name in fields() and str(fields()[name].type) in ("str", "Optional[str]")


def as_typed(words: list[str], sweep: bool) -> list[str]:
    """The same words, with text quoted where Hydra would read something else.

    In a single run a prompt is taken as it stands, unless it is quoted in Hydra's way; so is other text that Hydra
    reads as a number, a list or not at all. In a sweep Hydra's commas and functions hold where it can read them.
    `null` is no text: it is the default.
    """
    return [_as_typed(word, sweep) for word in words]


def _as_typed(word: str, sweep: bool) -> str:
    key, sign, value = word.partition("=")
    name = key.lstrip("+")
    if name == "lora" and value.startswith("["):
        return f"{key}.stack={value}"
    if name in ("scheduler.options", "model.cp_plan", "cluster.additional_parameters"):
        return f"++{name}{sign}{value}"  # it has whatever keys the class has, and Hydra lets nothing else add any
    if not sign or not is_text(name) or value.lower() == "null" or _QUOTED.fullmatch(value):
        return word
    literal = name in PROMPTS and not sweep
    read = parsed(word)
    if read is None:
        return word if "${" in value and name not in PROMPTS else f"{key}={quoted(value)}"
    if literal:
        return word if _says(read) == value else f"{key}={quoted(value)}"
    if not read.is_sweep_override():
        return word if "${" in value or isinstance(read.value(), str) else f"{key}={quoted(value)}"
    items = _items(value)
    if not sweep or not read.is_choice_sweep() or len(items) != len(list(read.sweep_string_iterator())):
        return word  # a range or a function, which is Hydra's own; without -m it is refused
    return f"{key}={','.join(_item(key, item.strip()) for item in items)}"


def _item(key: str, value: str) -> str:
    """One of several values."""
    if value.lower() == "null" or _QUOTED.fullmatch(value) or "${" in value:
        return value
    read = parsed(f"{key}={value}")
    return value if read is not None and isinstance(read.value(), str) else quoted(value)


def unescaped(word: str) -> str:
    """A word of a sweep's job, in which Hydra's sweeper puts backslashes before blanks and signs, with quotes instead.

    So it means the same as a word of a single run, where a prompt is taken as it stands.
    """
    key, _, value = word.partition("=")
    if "\\" not in value or _QUOTED.fullmatch(value) or not is_text(key.lstrip("+")):
        return word
    read = parsed(word)
    if read is None or not isinstance(text := read.value(), str):
        return word
    return f"{key}={quoted(text)}" if "${" not in text else f"{key}=" + quoted(text).replace("\\${", "${")


def _says(read: Override) -> str | None:
    """What Hydra makes of a single value, if that is a text without references."""
    value = None if read.is_sweep_override() else read.value()
    return value if isinstance(value, str) and "${" not in value else None


def _items(value: str) -> list[str]:
    """The parts between the commas that stand outside of quotes and brackets."""
    items, open_, quote, escaped = [""], [], "", False
    for char in value:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in _BRACKETS:
            open_.append(_BRACKETS[char])
        elif open_ and char == open_[-1]:
            open_.pop()
        elif char == "," and not open_:
            items.append("")
            continue
        items[-1] += char
    return items


class UnaskedError(HydraException):
    """Why a word is not Hydra's to read."""


def parse(word: str) -> Override:
    """A word as Hydra reads it.

    Raises:
        HydraException: it can't: the parser's, or that of a function such as range(); UnaskedError: it was not asked.
    """
    depth = deepest = 0
    for char in word:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH and not _QUOTED.fullmatch(word.partition("=")[2]):
        raise UnaskedError(f"brackets are nested more than {MAX_DEPTH} deep")
    if "\\" * MAX_BACKSLASHES in word:
        raise UnaskedError(f"there are {MAX_BACKSLASHES} backslashes in a row")
    try:
        return OverridesParser.create().parse_override(word)
    except ValueError as error:  # Python's own, of a number with more than 4300 digits
        raise UnaskedError(str(error).partition(":")[0]) from error


@functools.lru_cache(256)  # each word is asked for several times, and reading one of 30,000 letters takes 0.3 s
def parsed(word: str) -> Override | None:
    """A word as Hydra reads it, or None where it can't."""
    try:
        return parse(word)
    except HydraException:
        return None


def quoted(value: str) -> str:
    """A value between double quotes, as Hydra's grammar and then OmegaConf's read it back, whatever it holds.

    Backslashes mean something only before a quote, the end, and `${`, which would start an interpolation.
    """
    value = re.sub(r"(?<!\\)(\\*)\$\{", r"\1\1\\${", value)
    value = re.sub(r"(?<!\\)(\\*)\"", r"\1\1" + r'\\"', value)
    return '"' + re.sub(r"(?<!\\)(\\+)\Z", r"\1\1", value) + '"'
