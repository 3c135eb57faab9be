"""The arithmetic of ranks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attention_backends.topology import Topology
from launcher.request.mesh import Mesh, Place

degree = st.integers(1, 5)
meshes = st.builds(Mesh, degree, degree, degree, degree)


@given(mesh=meshes)
def test_ranks_and_places_are_one_to_one_and_ulysses_changes_fastest(mesh):
    places = [mesh.place(rank) for rank in range(mesh.ranks)]
    assert [mesh.rank(place) for place in places] == list(range(mesh.ranks))
    assert places == sorted(places)  # lexicographic: the last coordinate changes fastest
    assert len(set(places)) == mesh.data * mesh.cfg * mesh.sequence


@given(mesh=meshes, rank=st.integers(-3, 700))
def test_a_rank_or_place_outside_is_an_error_that_prints_the_product(mesh, rank):
    if 0 <= rank < mesh.ranks:
        assert mesh.rank(mesh.place(rank)) == rank
        return
    with pytest.raises(ValueError, match=f"= {mesh.ranks} ranks? has ranks 0 to {mesh.ranks - 1}"):
        mesh.place(rank)
    with pytest.raises(ValueError, match=f"= {mesh.ranks} rank"):
        mesh.rank(Place(0, 0, 0, mesh.ulysses))


def test_the_places_of_a_small_mesh():
    mesh = Mesh(cfg=2, ring=2, ulysses=2)
    assert mesh.place(5) == Place(data=0, cfg=1, ring=0, ulysses=1)
    assert mesh.place(6) == Place(data=0, cfg=1, ring=1, ulysses=0)
    assert (mesh.ranks, mesh.sequence) == (8, 4)


def test_a_mismatch_prints_the_product():
    assert Mesh(ring=2, ulysses=2).mismatch(4) is None
    assert Mesh(ring=2, ulysses=2).mismatch(5) == "ring_degree 2 x ulysses_degree 2 = 4 ranks, not 5"
    assert Mesh(2, 2, 1, 3).mismatch(1) == (
        "data_degree 2 x cfg_degree 2 x ring_degree 1 x ulysses_degree 3 = 12 ranks, not 1"
    )


@pytest.mark.parametrize("mesh", [Mesh(ring=0), Mesh(ulysses=-1), Mesh(data=-2, ring=-3)])
def test_a_wish_that_is_illegal_is_kept_and_is_no_place_for_ranks(mesh):
    assert not mesh.whole
    with pytest.raises(ValueError, match="ranks 0 to"):
        mesh.place(0)


def test_ranks_of_a_row_are_neighbours_then_come_the_ring_guidance_and_data():
    """Ranks that exchange most are next to each other, on the fastest links; attention_backends numbers them alike."""
    mesh = Mesh(data=2, cfg=2, ring=2, ulysses=2)
    apart = {axis: mesh.rank(Place(**{**dict.fromkeys(Place._fields, 0), axis: 1})) for axis in Place._fields}
    assert apart == {"ulysses": 1, "ring": 2, "cfg": 4, "data": 8}
    half = Mesh(cfg=2, ring=2, ulysses=3)
    for rank in range(half.ranks):
        place, topology = half.place(rank), Topology(None, rank % half.sequence, 2, 3)
        assert topology.row == tuple(half.rank(place._replace(cfg=0, ulysses=other)) for other in range(3))
        assert topology.ring == tuple(half.rank(place._replace(cfg=0, ring=other)) for other in range(2))
