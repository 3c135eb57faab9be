"""Dataclasses to JSON and back: the one reader and writer of messages, records and recipes.

What is read may come from anybody, so the reader is strict: a key that is unknown or missing, a value of another type
or a number that is not finite is an error that names its place. Nothing in the text chooses what is made of it.

A field may be a str, int, float, bool, None, Literal, dataclass, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]`, a
union of these with at most one dataclass in it, or `object`, which is any JSON as it is. A field whose value is its
default is left out.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

T = TypeVar("T")


class MalformedError(ValueError):
    """The text is not what was expected; the words name the place and what is wrong there."""


def dumps(value: object, indent: int | None = None, ascii: bool = True) -> str:
    """Write a dataclass as JSON.

    Args:
        indent: spaces of each level; None for one line.
        ascii: escape every other character.

    Raises:
        ValueError: a number in it is not finite.
    """
    separators = (",", ":") if indent is None else None
    return json.dumps(plain(value), indent=indent, ensure_ascii=ascii, separators=separators, allow_nan=False)


def loads(kind: type[T], text: str | bytes) -> T:
    """Read a dataclass of this kind.

    Raises:
        MalformedError: the text is no JSON, or not of this kind.
    """
    return build(kind, parse(text))


def parse(text: str | bytes) -> object:
    """Read JSON as it is.

    Raises:
        MalformedError: it is no JSON; NaN and infinities are none.
    """
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise MalformedError("not JSON: nested too deeply") from error
    except MalformedError:
        raise
    except ValueError as error:
        raise MalformedError(f"not JSON: {error}") from error


def plain(value: object) -> object:
    """Turn a dataclass, with all that is in it, into dicts and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
        return {field.name: plain(item) for field, item in fields if not _is_default(field, item)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def build(kind: type[T], data: object, place: str = "") -> T:
    """Make a dataclass of this kind from dicts and lists.

    Args:
        place: where the data stands in what was read, for the error.

    Raises:
        MalformedError: it is not of this kind.
    """
    if not isinstance(data, dict):
        raise MalformedError(f"{place or kind.__name__}: expected an object, got {_told(data)}")
    fields = _fields(typing.cast(type, kind))
    for key in data:
        if key not in fields:
            raise MalformedError(f"{_within(place, key)}: unknown key")
    given = {}
    for key, (read, needed) in fields.items():
        if key in data:
            given[key] = read(data[key], _within(place, key))
        elif needed:
            raise MalformedError(f"{_within(place, key)}: missing")
    try:
        return kind(**given)
    except MalformedError:
        raise
    except ValueError as error:  # the dataclass's own check
        raise MalformedError(f"{place or kind.__name__}: {error}") from error


Reader = Callable[[object, str], Any]  # whatever the field's type says


@functools.cache
def _fields(kind: type) -> dict[str, tuple[Reader, bool]]:
    """Each field's reader, and whether it has to be there."""
    hints = typing.get_type_hints(kind)
    missing = dataclasses.MISSING
    return {
        field.name: (_reader(hints[field.name]), field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(kind)
    }


def _reader(hint: Any) -> Reader:
    """What reads a value of this type."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is object:
        return lambda data, place: data
    if origin in (Union, types.UnionType):
        return _union(hint)
    if origin is Literal:
        return lambda data, place: _one_of(inner, data, place)
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        each = _reader(inner[0])
        return lambda data, place: tuple(each(item, f"{place}[{i}]") for i, item in enumerate(_list(data, place)))
    if origin is tuple:
        readers = [_reader(item) for item in inner]
        return lambda data, place: _fixed(readers, data, place)
    if origin is dict:
        each_value = _reader(inner[1])
        return lambda data, place: {
            key: each_value(item, _within(place, key)) for key, item in _dict(data, place).items()
        }
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return lambda data, place: build(hint, data, place)
    return lambda data, place: _scalar(hint, data, place)


def _union(hint: Any) -> Reader:
    """What reads the first type of a union that fits. The error of a dataclass in it says more than "none fits"."""
    kinds = get_args(hint)
    readers = [_reader(kind) for kind in kinds if not dataclasses.is_dataclass(kind)]
    classes = [_reader(kind) for kind in kinds if dataclasses.is_dataclass(kind)]

    def read(data: object, place: str) -> Any:
        if isinstance(data, dict) and classes:
            return classes[0](data, place)
        for reader in readers:
            try:
                return reader(data, place)
            except MalformedError:
                pass
        raise MalformedError(f"{place}: expected {_name(hint)}, got {_told(data)}")

    return read


def _scalar(kind: type, data: object, place: str) -> object:
    if kind is float and type(data) is int:
        try:
            return float(data)
        except OverflowError:
            raise MalformedError(f"{place}: a number beyond every float") from None
    if type(data) is not kind:  # True is an int for Python
        raise MalformedError(f"{place}: expected {_name(kind)}, got {_told(data)}")
    if isinstance(data, float) and not math.isfinite(data):  # 1e999
        raise MalformedError(f"{place}: a number beyond every float")
    return data


def _one_of(words: tuple[object, ...], data: object, place: str) -> object:
    if not any(data == word and type(data) is type(word) for word in words):
        raise MalformedError(f"{place}: expected one of {', '.join(map(str, words))}, got {_told(data)}")
    return data


def _list(data: object, place: str) -> list[object]:
    if not isinstance(data, list):
        raise MalformedError(f"{place}: expected a list, got {_told(data)}")
    return data


def _dict(data: object, place: str) -> dict[str, object]:
    if not isinstance(data, dict):
        raise MalformedError(f"{place}: expected an object, got {_told(data)}")
    return data


def _fixed(readers: list[Reader], data: object, place: str) -> tuple[object, ...]:
    items = _list(data, place)
    if len(items) != len(readers):
        raise MalformedError(f"{place}: expected a list of {len(readers)}, got one of {len(items)}")
    return tuple(read(item, f"{place}[{i}]") for i, (read, item) in enumerate(zip(readers, items, strict=True)))


def _is_default(field: dataclasses.Field[Any], value: object) -> bool:
    if field.default is not dataclasses.MISSING:
        return type(value) is type(field.default) and value == field.default
    return field.default_factory is not dataclasses.MISSING and value == field.default_factory()


def _within(place: str, key: str) -> str:
    return f"{place}.{key[:80]}" if place else key[:80]


def _name(kind: Any) -> str:
    if kind is types.NoneType:
        return "null"
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_name(each) for each in get_args(kind))
    return getattr(kind, "__name__", str(kind))


def _told(data: object) -> str:
    """A value in a few words: whose length is bounded, for it may be a stranger's."""
    if isinstance(data, dict):
        return "an object"
    if isinstance(data, list):
        return "a list"
    text = "null" if data is None else repr(data) if not isinstance(data, int) or abs(data) < 1 << 64 else "an integer"
    return text if len(text) <= 60 else f"{text[:60]}..."


def _no_number(text: str) -> object:
    raise MalformedError(f"not JSON: {text} is no number")
