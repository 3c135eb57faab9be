"""The table of which numbers decide which sizes is what diffusers' and transformers' classes do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

# ruff: noqa: E402  (the helpers are found by path)
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "attention_backends" / "helpers")]

import shapes

from launcher.families.shapes import contradictions, table


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(shapes.classes()))
def test_what_a_class_builds_contradicts_no_row(kind):
    """Tiny ones, diffusers' defaults, and other published ways of the class: no working checkpoint is refused."""
    known = 0
    for config in [shapes.classes()[kind], *shapes.others(kind)]:
        built, values = shapes.built(kind, config)
        assert list(contradictions(table()[kind], values, built)) == []
        known += sum(row.split(" ")[0] in built for row in table()[kind]["sizes"])
    assert known


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["FluxTransformer2DModel", "CLIPTextModel"])
def test_the_table_is_written_anew_as_it_is(kind):
    assert json.loads(shapes.written(shapes.table(kind, shapes.classes()[kind]))) == table()[kind]


def test_every_class_that_ranks_share_or_decode_with_is_in_the_table():
    assert sorted(table()) == sorted(shapes.classes())
