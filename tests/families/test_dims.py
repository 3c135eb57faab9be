"""The table of dimensions is what diffusers' classes show when they run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

# ruff: noqa: E402  (the helpers are found by path)
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "attention_backends" / "helpers")]

import dims
from miniatures import TINY

from launcher.families.plan_dims import table


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flux", "skyreels_v2_causal", "zimage"])
def test_the_table_knows_what_a_class_shows(name):
    known = table()[TINY[name].kind]
    told = {(f"{path} {key}", pattern) for path, key, pattern in dims.patterns(name)}
    assert told
    assert all(pattern in known[place].split() for place, pattern in told), "run python tests/families/dims.py"


def test_every_class_is_in_the_table():
    assert sorted(table()) == sorted({tiny.kind for tiny in TINY.values()})


def test_what_is_written_is_json():
    assert json.loads(dims.written(table())) == table()
