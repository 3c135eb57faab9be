"""Rows of the table: what they say of a configuration that the weights contradict. tests/families has the classes."""

from __future__ import annotations

import pytest

from launcher.families.shapes import contradictions, misfits, whole

ROWS = {
    "sizes": {"proj.weight 1": [4, "channels"], "norm.weight 0": [1, "heads", "head"]},
    "blocks": {"encoder.blocks": "layers", "down": "types."},
    "present": {"guidance.weight": "guided"},
    "defaults": {"channels": 16, "guided": False},
}
CONFIG = {"heads": 2, "head": 3, "layers": 2, "types": ["a", "b"]}
SHAPES = {
    "proj.weight": (5, 64),
    "text_model.norm.weight": (6,),
    "text_model.encoder.blocks.0.x": (1,),
    "text_model.encoder.blocks.1.x": (1,),
    "down.0.x": (1,),
    "down.1.x": (1,),
}


def test_what_agrees_or_is_not_there_says_nothing():
    assert list(contradictions(ROWS, CONFIG, SHAPES)) == []
    assert list(contradictions(ROWS, {}, {})) == []
    assert list(contradictions(ROWS, dict.fromkeys(CONFIG, "x"), SHAPES)) == []


@pytest.mark.parametrize(
    ("config", "shapes", "told"),
    [
        ({"channels": 8}, {}, "says channels=8, and the weights are of another size: proj.weight has [5, 64]"),
        ({}, {"proj.weight": (5, 8)}, "says channels=16 by default, and the weights are of another size"),
        ({"heads": 4}, {}, "says heads=4 and head=3, and the weights are of another size: norm.weight has [6]"),
        ({"layers": 3}, {}, "says layers=3, and the weights have 2 encoder.blocks"),
        ({"types": ["a"]}, {}, "says types of a length=1, and the weights have 2 down"),
        ({"guided": True}, {}, "says guided=True, and the weights have no guidance.weight"),
        ({}, {"guidance.weight": (1,)}, "says guided=False by default, and the weights have a guidance.weight"),
    ],
)
def test_what_the_weights_contradict_is_told(config, shapes, told):
    ((_, found),) = contradictions(ROWS, CONFIG | config, SHAPES | shapes)
    assert found.startswith(told)


def test_a_class_that_is_not_in_the_table_is_left_to_the_ranks():
    assert list(misfits("SomeNewModel", {"in_channels": 3}, {"x_embedder.weight": (1, 2)})) == []
    assert whole("SomeNewModel", {"a": 1}) == {"a": 1}
    assert whole("FluxTransformer2DModel", {})["axes_dims_rope"] == [16, 56, 56]
