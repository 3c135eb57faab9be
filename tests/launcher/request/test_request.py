"""Sizes, tokens and streams of a request."""

import pytest
from shared import GPUS

from attention_backends.catalog import MODES


def test_sizes_and_tokens(ask):
    request = ask("model=flux", "cp=ring_anything", "height=1000", "cp.ring_degree=3", machine=GPUS)
    assert str(request.rendered) == "1008 x 1024"
    assert request.streams == {"text": 512, "image": 4032}
    assert request.tokens_per_rank == [{"text": t, "image": 1344} for t in (171, 171, 170)]


@pytest.mark.slow
def test_tokens_of_a_video_and_what_is_split(ask):
    wan = ask("model=wan_t2v_1_3b", "frames=80", "height=470")
    assert (wan.frames, wan.rendered_frames, str(wan.rendered)) == (80, 81, "480 x 832")
    assert wan.streams == {"video": 21 * 30 * 52}  # every rank holds the text whole
    ltx = ask("model=ltx_video", "cp=unified_anything", "cp.ring_degree=3")
    assert ltx.streams == {"video": 21 * 16 * 22}
    cogvideox = ask("model=cogvideox_5b", "cp=ring_anything", "cp.ring_degree=3", "frames=48")
    assert cogvideox.streams == {"text": 226, "video": 13 * 30 * 45}
    assert [sum(rank.values()) for rank in cogvideox.tokens_per_rank] == [5926, 5925, 5925]
    assert ask("model=sd35_medium").streams == {"text": 256 + 77, "image": 64 * 64}
    assert ask().frames is None


def test_a_mask_asks_for_the_mode_that_takes_one(ask):
    assert MODES[ask("model=hunyuan_video", "runtime.processes=2").mode].masks
    assert MODES[ask("model=hunyuan_video", "runtime.processes=3").mode].masks  # 256 text tokens


def test_text_that_is_as_long_as_the_prompt_is_not_known_without_its_tokenizer(ask):
    request = ask("model=qwenimage")
    assert request.texts is None
    assert request.streams == {"text": 512, "image": 83 * 83}  # the most that there can be


@pytest.mark.parametrize(
    ("words", "negative"),
    [
        (["model=qwenimage"], ""),
        (["model=qwenimage", "model.true_cfg=1"], None),
        (["model=wan_t2v_1_3b", "negative_prompt=blue"], "blue"),
        (["model=wan_t2v_1_3b", "guidance=1"], None),
        (["model.true_cfg=2"], ""),
        (["model=flux"], None),
    ],
)
def test_classifier_free_guidance_has_a_negative_prompt(ask, words, negative):
    assert ask(*words).negative_prompt == negative
