"""Ulysses ranks are neighbours; a ring joins the ranks of equal place in their rows."""

import pytest

from attention_backends.topology import Topology


@pytest.mark.parametrize(("ring", "ulysses"), [(1, 4), (4, 1), (2, 3), (3, 2)])
def test_every_rank_has_one_place(ring, ulysses):
    found = [Topology(None, rank, ring, ulysses) for rank in range(ring * ulysses)]
    for each in found:
        assert each.row[each.ulysses_index] == each.rank == each.ring[each.ring_index]
        assert each.row == tuple(range(each.row[0], each.row[0] + ulysses))
    assert sorted(rank for row in {each.row for each in found} for rank in row) == list(range(ring * ulysses))
    assert sorted(rank for each in {each.ring for each in found} for rank in each) == list(range(ring * ulysses))
