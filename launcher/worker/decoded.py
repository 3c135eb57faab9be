"""What a pipeline made, as pictures and sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch
from PIL import Image

from launcher.records.film import Sound


class Frames(Sequence[Image.Image]):
    """Pictures, cropped; those of a film are made one by one as they are asked for, and not kept.

    Args:
        shown: pictures, or a film's frames (frames, 3, height, width) from 0 to 1.
        crop: left, top, right and bottom, in pixels.
    """

    def __init__(self, shown: list[Image.Image] | torch.Tensor, crop: tuple[int, int, int, int]) -> None:
        self.shown, self.crop = shown, crop

    def __len__(self) -> int:
        return len(self.shown)

    @overload
    def __getitem__(self, number: int) -> Image.Image: ...
    @overload
    def __getitem__(self, number: slice) -> Frames: ...
    def __getitem__(self, number: int | slice) -> Image.Image | Frames:
        if isinstance(number, slice):
            return Frames(self.shown[number], self.crop)
        frame = self.shown[number]
        return (frame if isinstance(frame, Image.Image) else _picture(frame)).crop(self.crop)


def _picture(frame: torch.Tensor) -> Image.Image:
    """A frame in 8 bits, as diffusers' own image processor rounds it."""
    pixels = frame.float().cpu().permute(1, 2, 0).numpy()
    return Image.fromarray((pixels * 255).round().astype("uint8"))


def sound_of(pipe: Any, result: Any, number: int) -> Sound | None:
    """The sound of one of a pipeline's films, or None where it makes none.

    Raises:
        FloatingPointError: it is not finite.
    """
    audio = getattr(result, "audio", None)
    if audio is None:
        return None
    samples = audio[number].detach().float().cpu().numpy()
    if not np.isfinite(samples).all():
        raise FloatingPointError("the decoded sound is not finite")
    return Sound(np.atleast_2d(samples).clip(-1, 1), pipe.vocoder.config.output_sampling_rate)
