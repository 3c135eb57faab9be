"""Pixels to latents to tokens to the tokens that each rank holds. Pure arithmetic.

The path that diffusers 0.42.1 fixes in each pipeline's `prepare_latents`: the VAE turns `vae_scale` x `vae_scale`
pixels into one latent, and `patch` x `patch` latents are packed into one token. A video's first frame is a latent by
itself, and each further latent holds `frames_per_latent` frames.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")  # HEIGHTxWIDTH; what else is written has a rule of its own


@dataclass(frozen=True)
class Size:
    """A picture's size in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height} x {self.width}"


def render_size(requested: Size, multiple: int) -> Size:
    """The smallest size that the model takes and that covers the requested one.

    Args:
        multiple: pixels of a token, each way (`vae_scale * patch`): 16 for FLUX, so 1000 is rendered at 1008.
    """
    return Size(-(-requested.height // multiple) * multiple, -(-requested.width // multiple) * multiple)


def crop_box(rendered: Size, requested: Size) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the requested size in the middle of the rendered one."""
    left = (rendered.width - requested.width) // 2
    top = (rendered.height - requested.height) // 2
    return left, top, left + requested.width, top + requested.height


def render_frames(requested: int, per_latent: int) -> int:
    """The fewest frames that the VAE makes and that cover the requested ones: 81 for 80 where a latent has 4."""
    return -(-(requested - 1) // per_latent) * per_latent + 1


def latent_frames(rendered: int, per_latent: int) -> int:
    """Latents in time: 21 for 81 frames where a latent has 4."""
    return (rendered - 1) // per_latent + 1


def image_tokens(rendered: Size, multiple: int) -> int:
    """Tokens of a rendered picture, or of one latent in time: 1008 x 1024 is 63 x 64 = 4032."""
    return (rendered.height // multiple) * (rendered.width // multiple)


def reference_size(
    given: Size, sizes: list[str] | None, area: int | None, most: int | None = None, multiple: int = 16
) -> Size | None:
    """The size in which a picture is looked at beside what is drawn, as diffusers' pipelines scale it.

    Args:
        sizes: HEIGHTxWIDTH, of which that with the nearest aspect is taken: FLUX.1 Kontext.
        area: pixels, kept about while 32 divides the sides: Qwen-Image-Edit's `calculate_dimensions`.
        most: pixels, to which a larger one is scaled down; then sides are cut to multiples: FLUX.2.
    """
    aspect = given.width / max(1, given.height)
    known = [Size(int(size[1]), int(size[2])) for each in sizes or () if (size := SIZE.fullmatch(each))]
    if known:
        return min(known, key=lambda size: (abs(aspect - size.width / size.height), size.width, size.height))
    if area is not None and area > 0:  # else its rule says so
        width = math.sqrt(area * aspect)
        return Size(round(width / aspect / 32) * 32, round(width / 32) * 32)
    if most is not None and most > 0:
        pixels = given.height * given.width
        scale = math.sqrt(most / pixels) if pixels > most else 1.0
        return Size(int(given.height * scale) // multiple * multiple, int(given.width * scale) // multiple * multiple)
    return None


def whole_size(given: Size, wanted: Size, multiple: int = 16) -> tuple[int, int]:
    """(height, width) in the aspect of a given picture, with about the pixels that are wanted."""
    height = math.sqrt(wanted.height * wanted.width * given.height / max(1, given.width))
    width = height * given.width / max(1, given.height)
    return max(1, round(height / multiple)) * multiple, max(1, round(width / multiple)) * multiple


def divisors(number: int) -> list[int]:
    """All divisors in ascending order: divisors(6) = [1, 2, 3, 6]."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def sizes_that_divide(rendered: Size, multiple: int, ranks: int, latents: int = 1) -> list[Size]:
    """The nearest smaller and larger heights whose tokens, in `latents` latents in time, `ranks` divides."""
    found = []
    for step in (-1, 1):
        for delta in range(1, ranks):
            height = rendered.height + step * delta * multiple
            size = Size(height, rendered.width)
            if height > 0 and latents * image_tokens(size, multiple) % ranks == 0:
                found.append(size)
                break
    return found
