"""Pictures to start from: what is refused, what runs, what a plan counts."""

import pytest
from PIL import Image
from refusals import PICTURE, REFUSALS
from shared import GPUS

from launcher.request.geometry import Size
from launcher.rules import pictures, problems


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["pictures"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)


def test_a_picture_can_be_drawn_over(ask):
    request = ask(f"image={PICTURE}", "strength=0.5", "steps=12", "height=100", "width=200")
    assert problems(request) == []
    assert request.denoising_steps == 6
    (given,) = request.inputs.pictures
    fit = request.fit(given)
    assert fit is not None
    assert (fit.cropped, fit.extended) == (Size(100, 200), Size(112, 208))
    inpaint = ask(f"image={PICTURE}", f"mask_image={PICTURE}", "strength=1")
    assert problems(inpaint) == []
    assert inpaint.denoising_steps == 12


def test_a_model_that_starts_from_a_picture_needs_one_to_run_and_not_to_be_planned(ask):
    request = ask("model=flux_kontext", "model.path=bundled", machine=GPUS)
    (problem,) = pictures.missing(request)
    assert "needs image; type image=FILE" in str(problem)
    assert not [problem for problem in problems(request, plan=True) if "image" in str(problem)]


@pytest.mark.slow
def test_what_is_looked_at_counts(ask, tmp_path):
    """Kontext doubles the sequence; Qwen-Image-Edit-Plus looks at up to three."""
    for number, size in enumerate(((800, 800), (1500, 1000), (100, 1000))):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")
    planned = ask("model=flux_kontext", machine=GPUS)
    assert planned.streams == {"text": 512, "image": 2 * 4096}
    assert not planned.counted
    square = ask("model=flux_kontext", f"image={tmp_path}/0.png", machine=GPUS)
    assert square.counted
    assert square.streams == {"text": 512, "image": 2 * 4096}
    wide = ask("model=flux_kontext", f"image={tmp_path}/1.png", machine=GPUS)
    assert wide.streams == {"text": 512, "image": 4096 + (832 // 16) * (1248 // 16)}
    assert wide.told_of(wide.inputs.pictures[0]) == ("scaled to 832 x 1248",)
    three = ",".join(f"{tmp_path}/{number}.png" for number in range(3))
    edit = ask("model=qwenimage_edit_plus", f"image=[{three}]", machine=GPUS)
    sizes = [(1024, 1024), (832, 1248), (3232, 320)]
    assert [(size.height, size.width) for size in edit.references] == sizes
    assert edit.streams["image"] == 4096 + sum(height * width // 256 for height, width in sizes)


def test_a_picture_that_is_too_narrow_is_refused(ask, tmp_path):
    Image.new("RGB", (1, 9000)).save(tmp_path / "x.png")
    request = ask("model=qwenimage_edit", f"image={tmp_path}/x.png", machine=GPUS)
    assert any("9000 x 1 is too narrow" in str(problem) for problem in pictures.looked_at(request))


@pytest.mark.slow
def test_flux2_looks_at_pictures_in_their_own_size_or_paints_over_one(ask, tmp_path):
    sizes = ((100, 200), (2000, 1500), (60, 90), (600, 70), (64, 512))
    for number, size in enumerate(sizes):
        Image.new("RGB", size).save(tmp_path / f"{number}.png")

    def said(request):
        return [str(problem) for problem in pictures.beside(request)]

    edit = ask("model=flux2", f"image=[{tmp_path}/0.png,{tmp_path}/1.png,{tmp_path}/4.png]", machine=GPUS)
    assert [(size.height, size.width) for size in edit.references] == [(192, 96), (880, 1168), (512, 64)]
    assert edit.streams["image"] == 4096 + (192 * 96 + 880 * 1168 + 512 * 64) // 256
    assert said(edit) == []
    for number, size in ((2, "90 x 60"), (3, "70 x 600")):
        (problem,) = said(ask("model=flux2_klein_9b", f"image={tmp_path}/{number}.png", machine=GPUS))
        assert f"image={number}.png: is {size}; flux2_klein_9b takes sides from 64 pixels, up to 8:1" in problem
    both = (f"image={tmp_path}/2.png", f"mask_image={tmp_path}/2.png")
    inpaint = ask("model=flux2_klein_4b", *both, machine=GPUS)
    assert inpaint.streams["image"] == 2 * 4096
    assert said(inpaint) == []
    (problem,) = said(ask("model=flux2_klein_4b", *both, "height=1040", machine=GPUS))
    assert "height=1040 width=1024: with image= and mask_image= flux2_klein_4b draws at most 1048576 pixels" in problem
    assert ask("model=flux2_klein_4b", machine=GPUS).streams["image"] == 4096


def test_a_last_frame_of_ltx_is_a_latent_more(ask):
    text = ask("model=ltx_video_095", "height=64", "width=96", "frames=17", machine=GPUS)
    given = (f"image={PICTURE}", f"last_image={PICTURE}")
    both = ask("model=ltx_video_095", "height=64", "width=96", "frames=17", *given, machine=GPUS)
    assert (text.streams, both.streams) == ({"video": 3 * 6}, {"video": 4 * 6})
    assert both.counted
