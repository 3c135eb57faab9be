"""The arguments of a pipeline's call, under its own names."""

from launcher.families.call import arguments, negative_prompt


def call(request):
    return arguments(request.config, request.rendered.height, request.rendered.width, request.rendered_frames)


def test_a_picture_is_asked_for_as_it_is_rendered(ask):
    assert call(ask("height=1000", "width=520", "steps=3")) == {
        "height": 1008,
        "width": 528,
        "num_inference_steps": 3,
        "max_sequence_length": 512,
    }


def test_a_film_has_frames_and_guidance(ask):
    found = call(ask("model=wan_t2v_1_3b", "frames=80"))
    assert (found["num_frames"], found["guidance_scale"], found["negative_prompt"]) == (81, 5.0, "")
    assert "frame_rate" not in found
    assert call(ask("model=ltx_video", "fps=24"))["frame_rate"] == 24


def test_an_argument_that_a_model_has_no_name_for_is_left_out(ask):
    assert "true_cfg_scale" not in call(ask("model=sd35_medium"))
    assert call(ask("model.true_cfg=2"))["true_cfg_scale"] == 2


def test_a_negative_prompt_is_empty_where_guidance_is_on_and_none_where_it_is_off(ask):
    assert negative_prompt(ask("negative_prompt=blue").config) is None
    assert negative_prompt(ask("model.true_cfg=2").config) == ""
    assert negative_prompt(ask("model.true_cfg=2", "negative_prompt=blue").config) == "blue"
