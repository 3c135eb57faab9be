"""Decoding in tiles: what is refused, and what a plan counts."""

import pytest
from refusals import REFUSALS

from launcher.decoding import Decoding
from launcher.estimates import decoding, memory
from launcher.rules import problems

BIG = ["runtime=cpu", "cp=ring_anything", "cp.ring_degree=2", "height=2048", "width=2048"]


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["decoding"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)


def test_a_plan_counts_one_picture_of_a_batch_in_slices(ask):
    whole, sliced, both = (
        ask(*BIG, "batch=4", "images=4", *words)
        for words in ([], ["vae.slicing=true"], ["vae.slicing=true", "vae.tiling=true", "vae.shared=true"])
    )
    assert (sliced.decoding, both.decoding) == (Decoding(slicing=True), Decoding(512, True, True))
    assert problems(sliced, plan=True) == problems(both, plan=True) == []
    told = [[rank.decoding for rank in memory.of_ranks(request)] for request in (whole, sliced, both)]
    pictures = 4 * decoding.PIXEL * 2048 * 2048
    assert told[0][0] - pictures == 4 * (told[1][0] - pictures)
    assert told[0][1] == told[1][1] == 0 < told[2][1]


def test_a_plan_counts_a_tile_on_each_rank_that_decodes(ask):
    whole, tiled, shared = (
        ask(*BIG, *words) for words in ([], ["vae.tiling=true"], ["vae.tiling=true", "vae.shared=true"])
    )
    assert (whole.decoding, tiled.decoding, shared.decoding) == (Decoding(), Decoding(512), Decoding(512, True))
    assert problems(shared, plan=True) == []
    told = [[rank.decoding for rank in memory.of_ranks(request)] for request in (whole, tiled, shared)]
    assert told[0][0] > 2 * told[1][0]
    assert told[1] == [told[2][0], 0]
    assert 0 < told[2][1] < told[2][0]
