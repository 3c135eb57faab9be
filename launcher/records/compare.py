"""How close two pictures, or videos, are: to the byte, to the pixel, or by PSNR, SSIM and the largest difference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from launcher.records.files import sha256, whole
from launcher.records.picture import extent, first_frame, frames_of

WINDOW = 7  # pixels of a side of what SSIM compares at once
Pixels = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """What lies between two pictures.

    Args:
        same: "bytes", "pixels" or "" for neither.
        largest: difference of a channel, of 255. share: of pixels that differ at all.
        psnr: dB; None for equal pixels. ssim: 1 for equal pixels. All are None where nothing could be compared.
        why: nothing could be compared.
    """

    same: str = ""
    largest: int | None = None
    share: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    why: str = ""

    def __str__(self) -> str:
        if self.why:
            return self.why
        if self.same:
            return "same bytes" if self.same == "bytes" else "same pixels"
        assert self.psnr is not None
        assert self.ssim is not None
        share = "" if self.share is None else f" in {100 * self.share:.3g}% of the pixels"
        return f"PSNR {self.psnr:.1f} dB, SSIM {self.ssim:.4f}, largest difference {self.largest} of 255{share}"


def difference(one: Path, other: Path, fps: int | None = None) -> Difference:
    """Compare two files; the first may be a stranger's, so no more of it is decoded than the second one has."""
    try:
        if sha256(one) == sha256(other):
            return Difference("bytes", 0, 0.0, None, 1.0)
        if why := _unlike(one, other):
            return Difference(why=why)
        pairs = zip(frames_of(one, fps), frames_of(other, fps), strict=True)
        found = [frames(np.asarray(before), np.asarray(after)) for before, after in pairs]
    except Exception as error:  # Pillow's readers raise many kinds: SyntaxError, struct.error, a bomb's ...
        told = getattr(error, "strerror", None) or type(error).__name__
        return Difference(why=f"{one.name} can't be compared ({told})")
    if all(each.same for each in found):
        return Difference("pixels", 0, 0.0, None, 1.0)
    worst = [each.psnr for each in found if each.psnr is not None]
    return Difference(
        "",
        max(each.largest or 0 for each in found),
        sum(each.share or 0 for each in found) / len(found),
        min(worst),
        min(each.ssim if each.ssim is not None else 1.0 for each in found),
    )


def _unlike(one: Path, other: Path) -> str:
    """Why two files show different things; their headers alone are read."""
    sizes = [extent(path) for path in (one, other)]
    if sizes[0] == sizes[1]:
        return ""
    before, after = (f"{height} x {width}" + f" x {count} frames" * (count > 1) for height, width, count in sizes)
    return f"{one.name} is {before} pixels and what was made is {after}: they can't be compared"


def frames(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> Difference:
    """Compare two frames (height, width, 3)."""
    before, after = one.astype(np.float64), other.astype(np.float64)
    apart = np.abs(before - after)
    if not apart.any():
        return Difference("pixels", 0, 0.0, None, 1.0)
    psnr = 10 * math.log10(255**2 / float((apart**2).mean()))
    share = float((apart.max(-1) > 0).mean())
    return Difference("", int(apart.max()), share, psnr, ssim(before, after))


def ssim(one: Pixels, other: Pixels) -> float:
    """Structural similarity, the mean over windows and channels (Wang et al. 2004, doi:10.1109/TIP.2003.819861).

    Windows are uniform and variances those of a sample, as in scikit-image's default.

    Args:
        one, other: (height, width, channels), from 0 to 255.
    """
    size = min(WINDOW, *one.shape[:2])
    count = size * size
    sample = count / max(1, count - 1)
    mean_a, mean_b = _means(one, size), _means(other, size)
    var_a = sample * (_means(one * one, size) - mean_a**2)
    var_b = sample * (_means(other * other, size) - mean_b**2)
    both = sample * (_means(one * other, size) - mean_a * mean_b)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float((top / bottom).mean())


def _means(x: Pixels, size: int) -> Pixels:
    """The mean of each window that lies whole within the picture."""
    for axis in (0, 1):
        total = np.cumsum(x, axis=axis)
        total = np.concatenate([np.zeros_like(np.take(total, [0], axis)), total], axis)
        x = (
            np.take(total, range(size, total.shape[axis]), axis) - np.take(total, range(total.shape[axis] - size), axis)
        ) / size
    return x


def difference_map(one: Image.Image, other: Image.Image) -> Image.Image:
    """Where two pictures of one size differ: black for equal, white for the largest difference there is in them."""
    before, after = (np.asarray(picture.convert("RGB")).astype(np.int16) for picture in (one, other))
    apart = np.abs(before - after).max(-1)
    return Image.fromarray((apart * (255 / max(1, int(apart.max())))).astype(np.uint8))


def side_by_side(one: Path, other: Path, path: Path) -> None:
    """Write a PNG of the first frames of two files, and of where they differ.

    Raises:
        OSError: a file can't be read, or this one can't be written; no file of its name is left then.
    """
    pictures = [first_frame(file) for file in (one, other)]
    pictures.append(difference_map(*pictures).convert("RGB"))
    width, height = pictures[0].size
    sheet = Image.new("RGB", (3 * width, height))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number * width, 0))
    with whole(path) as temporary:
        sheet.save(temporary, format="PNG")
