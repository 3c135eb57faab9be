"""Pictures and sound as a pipeline gives them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from launcher.worker.decoded import Frames, sound_of

PIPE = SimpleNamespace(vocoder=SimpleNamespace(config=SimpleNamespace(output_sampling_rate=24000)))


def film(frames: int = 3) -> torch.Tensor:
    """Numbers at, and just beside, what is rounded up or down."""
    numbers = torch.linspace(0, 1, frames * 3 * 6 * 8) + 0.5 / 255
    return numbers.clamp(0, 1).reshape(frames, 3, 6, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_frames_are_what_diffusers_makes_of_them(dtype):
    shown = film().to(dtype)
    expected = VaeImageProcessor.numpy_to_pil(VaeImageProcessor.pt_to_numpy(shown))
    found = Frames(shown, (0, 0, 8, 6))
    assert len(found) == 3
    assert [frame.tobytes() for frame in found] == [frame.tobytes() for frame in expected]


def test_bfloat16_which_numpy_does_not_know_is_shown():
    (frame,) = Frames(torch.ones(1, 3, 2, 2, dtype=torch.bfloat16), (0, 0, 2, 2))
    assert np.asarray(frame).tolist() == [[[255] * 3] * 2] * 2


def test_every_kind_is_cropped():
    pixels = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    crop = (1, 2, 8, 5)
    (picture,) = Frames([Image.fromarray(pixels)], crop)
    assert np.array_equal(np.asarray(picture), pixels[2:5, 1:8])
    (frame,) = Frames(torch.from_numpy(pixels / 255).permute(2, 0, 1)[None], crop)
    assert np.array_equal(np.asarray(frame), pixels[2:5, 1:8])


def test_a_part_of_a_film_is_one_too():
    frames = Frames(film(4), (0, 1, 5, 6))
    part = frames[1:3]
    assert isinstance(part, Frames)
    assert [frame.tobytes() for frame in part] == [frames[1].tobytes(), frames[2].tobytes()]
    assert frames[-1].tobytes() == list(frames)[3].tobytes()
    assert len(frames[9:]) == 0
    with pytest.raises(IndexError):
        frames[4]


def test_sound_is_cut_to_what_a_file_can_hold():
    samples = torch.tensor([[[0.5, -3.0, 2.0], [0.0, 1.0, -1.0]]], dtype=torch.bfloat16, requires_grad=True)
    sound = sound_of(PIPE, SimpleNamespace(audio=samples), 0)
    assert sound is not None
    assert sound.rate == 24000
    assert sound.samples.tolist() == [[0.5, -1.0, 1.0], [0.0, 1.0, -1.0]]


def test_one_channel_is_a_row_and_no_sound_is_none():
    sound = sound_of(PIPE, SimpleNamespace(audio=torch.zeros(1, 5)), 0)
    assert sound is not None
    assert sound.samples.shape == (1, 5)
    assert sound_of(PIPE, SimpleNamespace(frames=[]), 0) is None
    assert sound_of(PIPE, SimpleNamespace(audio=None), 0) is None


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_sound_that_is_not_finite_is_an_error(odd):
    with pytest.raises(FloatingPointError, match="decoded sound"):
        sound_of(PIPE, SimpleNamespace(audio=torch.tensor([[0.0, odd]])), 0)
