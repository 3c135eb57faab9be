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


WAN = ["runtime=cpu", "model=wan_t2v_1_3b", "height=480", "width=832"]


def test_a_plan_counts_the_frames_that_are_decoded_at_once_and_the_film(ask):
    film, stage = 3 * 4 * 480 * 832, 192 * 480 * 832 * 4 * 4
    for frames in (33, 81):
        request = ask(*WAN, f"frames={frames}", "runtime.dtype=float32")
        assert memory.of_ranks(request)[0].decoding == int(7.3 * stage) + frames * film
    longest = ask(*WAN, "frames=1001", "runtime.dtype=float32", "vae.tiling=true", "vae.tile=128")
    assert memory.of_ranks(longest)[0].decoding == int(decoding.JOINED * 1001 * film)


@pytest.mark.parametrize(
    ("height", "dtype", "stages"), [(512, "float32", 27), (1024, "float32", 4), (512, "bfloat16", 4)]
)
def test_a_cpu_writes_out_what_a_small_convolution_of_a_film_reads(ask, height, dtype, stages):
    words = [*WAN, f"height={height}", "frames=5", "model.vae_width=4", "model.vae_tensors=9", f"runtime.dtype={dtype}"]
    size = 4 if dtype == "float32" else 2
    stage = 4 * height * 832 * 4 * size
    assert memory.of_ranks(ask(*words))[0].decoding == (9 + stages) * stage + 3 * size * 5 * height * 832


def test_a_plan_counts_the_mask_among_the_latents_of_a_hunyuan_video(ask):
    words = ["runtime=cpu", "model=hunyuan_video", "height=960", "width=960", "frames=33", "model.vae_width=4"]
    masked = memory.of_ranks(ask(*words, "runtime.dtype=float32"))[0].decoding
    assert masked == 5 * (5 * 120 * 120) ** 2 + 3 * 4 * 33 * 960 * 960
