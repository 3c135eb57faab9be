import pytest

from launcher.problems import choices, nearest


@pytest.mark.parametrize(
    ("word", "best"),
    [("heigth", "height"), ("ring_any", "ring_anything"), ("ulyses", "ulysses"), ("Width", "width"), ("zzz", None)],
)
def test_nearest(word, best):
    legal = ["height", "width", "ring", "ring_anything", "ulysses", "ulysses_anything", "weights"]
    found = nearest(word, legal)
    assert (found[0] if found else None) == best


def test_choices():
    assert [choices([]), choices("a"), choices("ab"), choices("abc")] == ["", "a", "a or b", "a, b or c"]
