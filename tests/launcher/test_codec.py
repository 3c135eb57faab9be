"""The one reader of messages, records and recipes: what it takes, and what each kind of mistake is called."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import codec
from launcher.codec import MalformedError


@dataclass(frozen=True)
class Inner:
    a: int
    b: str = ""


@dataclass(frozen=True)
class Outer:
    number: float
    flag: bool
    word: Literal["one", "two"]
    inner: Inner | None
    many: tuple[Inner, ...]
    pair: tuple[int, str]
    table: dict[str, int]
    free: object
    either: int | str | None = None
    more: tuple[int, ...] = field(default=())


WHOLE = Outer(1.5, True, "two", Inner(1, "x"), (Inner(2),), (3, "y"), {"z": 4}, {"any": [None, 1.5, "ü"]})
text = st.text(max_size=8)
inners = st.builds(Inner, st.integers(), text)
free = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
outers = st.builds(
    Outer,
    number=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    word=st.sampled_from(["one", "two"]),
    inner=st.none() | inners,
    many=st.lists(inners, max_size=3).map(tuple),
    pair=st.tuples(st.integers(), text),
    table=st.dictionaries(text, st.integers(), max_size=3),
    free=free,
    either=st.none() | st.integers() | text,
    more=st.lists(st.integers(), max_size=3).map(tuple),
)


@given(outers, st.sampled_from([None, 2]), st.booleans())
def test_what_is_written_is_read_back(value, indent, ascii):
    assert codec.loads(Outer, codec.dumps(value, indent, ascii)) == value


def test_a_default_is_left_out_and_only_a_default():
    assert set(json.loads(codec.dumps(WHOLE))) == {each.name for each in dataclasses.fields(Outer)} - {"either", "more"}
    assert json.loads(codec.dumps(dataclasses.replace(WHOLE, inner=None)))["inner"] is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"nubmer": 1}, "nubmer: unknown key"),
        ({"inner": {"a": 1, "c": 2}}, "inner.c: unknown key"),
        ({"inner": {}}, "inner.a: missing"),
        ({"inner": 3}, "inner: expected Inner or null, got 3"),
        ({"number": "1.5"}, "number: expected float, got '1.5'"),
        ({"number": True}, "number: expected float, got True"),
        ({"flag": 1}, "flag: expected bool, got 1"),
        ({"word": "three"}, "word: expected one of one, two, got 'three'"),
        ({"word": ["one"]}, "word: expected one of one, two, got a list"),
        ({"many": {}}, "many: expected a list, got an object"),
        ({"many": [{"a": 1}, {"a": "1"}]}, "many[1].a: expected int, got '1'"),
        ({"pair": [1]}, "pair: expected a list of 2, got one of 1"),
        ({"table": {"z": None}}, "table.z: expected int, got null"),
        ({"either": 1.5}, "either: expected int or str or null, got 1.5"),
        ({"number": 10**400}, "number: a number beyond every float"),
        ({"either": "x" * 99, "flag": "x" * 999}, f"flag: expected bool, got '{'x' * 59}..."),
    ],
)
def test_a_mistake_is_named_with_its_place(change, told):
    data = codec.plain(WHOLE)
    assert isinstance(data, dict)
    with pytest.raises(MalformedError) as caught:
        codec.loads(Outer, json.dumps(data | change))
    assert str(caught.value) == told


@pytest.mark.parametrize("line", ['{"a": NaN}', '{"a": -Infinity}', '{"a": 1e999}', "[" * 200_000, '{"a": 1', "", "\0"])
def test_what_is_no_json_of_ours_is_told(line):
    with pytest.raises(MalformedError):
        codec.loads(Inner, line)


def test_numbers_that_are_not_finite_are_not_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        codec.dumps(dataclasses.replace(WHOLE, number=float("nan")))


@given(free)
def test_nothing_that_is_read_does_more_than_be_malformed(data):
    with contextlib.suppress(MalformedError):
        assert isinstance(codec.loads(Inner, json.dumps(data)), Inner)
    with contextlib.suppress(MalformedError):
        assert isinstance(codec.loads(Outer, json.dumps({**codec.plain(WHOLE), "free": data, "inner": data})), Outer)
