"""The JSON Schema that is shipped: up to date, and as strict as what reads records here."""

import dataclasses
import json

import pytest
from jsonschema import Draft202012Validator, ValidationError
from shared import a_record

from launcher import codec
from launcher.records.json_schema import FILE, text
from launcher.records.record import Checkout, File, Record, Scheduler, Weights

VALIDATOR = Draft202012Validator(json.loads(FILE.read_text()))
FULL = a_record(
    status="done",
    files=(File("0000.png", "ab", 10, 8, 8, 5, 0),),
    seconds=1.0,
    times={"load": 1.0},
    peak_bytes=(1, 2),
    step_seconds=((0.5, 1.0), ()),
    weights=Weights({"a/b.safetensors": "ab"}),
    scheduler=Scheduler("X", {"shift": 3.0, "list": [1, None]}),
    checkout=Checkout("ab", True),
)


def test_it_is_up_to_date():
    assert FILE.read_text() == text(), "run: python -m launcher.records.json_schema"
    Draft202012Validator.check_schema(json.loads(text()))


@pytest.mark.parametrize("record", [a_record(), FULL])
def test_records_are_valid(record: Record):
    VALIDATOR.validate(codec.plain(record))


@pytest.mark.parametrize(
    "change", [{"status": "well"}, {"seed": "1"}, {"files": [{}]}, {"unknown": 1}, {"checkout": {"commit": 1}}]
)
def test_what_the_reader_refuses_it_refuses_too(change):
    data = {**codec.plain(FULL), **change}
    with pytest.raises(codec.MalformedError):
        codec.build(Record, data)
    with pytest.raises(ValidationError):
        VALIDATOR.validate(data)


def test_every_field_without_a_default_is_required():
    data = codec.plain(FULL)
    for field in dataclasses.fields(Record):
        less = {key: value for key, value in data.items() if key != field.name}
        assert VALIDATOR.is_valid(less) == (
            field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        )
