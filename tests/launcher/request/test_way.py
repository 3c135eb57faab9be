"""A way's name."""

from launcher.request.mesh import Mesh
from launcher.request.way import Way


def test_degrees_are_named_where_they_say_something():
    assert Way("ring_anything", Mesh(ring=3), "gather").name == "ring_anything"
    assert Way("unified", Mesh(ring=3, ulysses=2), "gather").name == "unified 3 x 2"
    assert Way("none", Mesh(), "").name == "none"
    assert Way("none", Mesh(cfg=2), "").name == "none cfg 2"
