"""Pictures that a request starts from: looked at before anything starts, and made ready for the model.

Only formats whose readers do nothing but read are opened. What differs from eight bits of red, green and blue, upright,
is changed and told: colour profiles, alpha, 16 bits, CMYK, a camera's rotation, several frames.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.config.paths import user_path
from launcher.problems import Problem
from launcher.reading import UnreadableError, read_bytes
from launcher.request import films
from launcher.request.geometry import Size, crop_box

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 256 << 20
MAX_PIXELS = 100_000_000  # what the largest cameras make; decoded it takes 300 MB
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
KINDS = "PNG, JPEG, WebP, TIFF, BMP or GIF"


@dataclass(frozen=True)
class Given:
    """A picture that was given, as it is once upright.

    Args:
        setting: image, mask_image, last_image or video.
        frames: of a film, as far as they are wanted; None of a picture.
        changed: what has to be changed in it, each a clause: "turned as its EXIF tag says".
    """

    setting: str
    path: Path
    sha256: str
    size: Size
    changed: tuple[str, ...] = ()
    frames: int | None = None


@dataclass(frozen=True)
class Fit:
    """How a picture is brought to the size that it is needed in: scaled, cropped in the middle, extended at its edges.

    A side is extended where more is rendered than was asked for; what is made there is cropped off again.
    """

    given: Size
    scaled: Size
    cropped: Size
    extended: Size

    @property
    def told(self) -> tuple[str, ...]:
        """What is done, in words."""
        steps = (("scaled", self.given, self.scaled), ("cropped", self.scaled, self.cropped))
        found = [f"{word} to {after}" for word, before, after in steps if before != after]
        return (*found, f"extended to {self.extended} at its edges") if self.cropped != self.extended else tuple(found)


def covering(given: Size, requested: Size, rendered: Size) -> Fit:
    """A picture that what is drawn has to line up with: it covers the requested size."""
    scale = max(requested.height / max(1, given.height), requested.width / max(1, given.width))
    height, width = round(given.height * scale), round(given.width * scale)
    scaled = Size(max(requested.height, height), max(requested.width, width))
    return Fit(given, scaled, requested, rendered)


def listed(text: str) -> list[str]:
    """The files that a setting names: one, or several in brackets."""
    if not (text.startswith("[") and text.endswith("]")) or os.path.lexists(text):
        return [text]
    return [item.strip().strip("'\"") for item in text[1:-1].split(",")]


def look(setting: str, text: str, frames: int = 1) -> tuple[list[Given], list[Problem]]:
    """Read what a setting names. What can't be used becomes a problem.

    Args:
        frames: that are wanted of a film.
    """
    kinds, what = (films.KINDS, "film") if setting == "video" else (KINDS, "picture")
    instead = f"give the path of a {what} on this machine"
    found: list[Given] = []
    problems: list[Problem] = []
    for name in listed(text):
        value = f"{setting}={name}"
        try:
            path = user_path(name)
            status = path.stat()
            state = (status.st_mtime_ns, status.st_size)
            if setting == "video":
                sha256, size, count, changed = films.looked(path, state, frames)
                found.append(Given(setting, path, sha256, size, changed, count))
                continue
            sha256, size, changed = _looked(path, state, setting == "mask_image")
            found.append(Given(setting, path, sha256, size, changed))
        except UnreadableError as error:
            problems.append(Problem(value, str(error), f"give a {kinds} file"))
        except OSError as error:
            rule = f"can't be read ({error.strerror or type(error).__name__})"
            problems.append(Problem(value, rule, instead))
        except ValueError as error:  # no file can have this name
            problems.append(Problem(value, str(error), instead))
    return found, problems


@functools.lru_cache(64)
def _looked(path: Path, _changed: tuple[int, int], mask: bool) -> tuple[str, Size, tuple[str, ...]]:
    """A picture's digest, its upright size and what has to be changed in it: once for all jobs of a sweep."""
    content = read_bytes(path, MAX_BYTES)
    picture, changed = _decoded(content, mask)
    return hashlib.sha256(content).hexdigest(), Size(picture.height, picture.width), changed


def content_of(given: Given) -> bytes:
    """The file's bytes.

    Raises:
        UnreadableError: it is another one than was looked at.
    """
    content = read_bytes(given.path, MAX_BYTES if given.frames is None else films.MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != given.sha256:
        raise UnreadableError("was changed since it was checked")
    return content


def ready(given: Given, fit: Fit | None) -> Image.Image:
    """The picture in RGB, a mask in one channel, fitted.

    Raises:
        UnreadableError: it is another one than was looked at.
    """
    return _fitted(_decoded(content_of(given), given.setting == "mask_image")[0], fit)


def ready_film(given: Given, fit: Fit | None, count: int) -> Iterator[Image.Image]:
    """So many frames of a film in RGB, fitted; where it has fewer, which is cropped off again, its last is repeated.

    Raises:
        UnreadableError: it is another one than was looked at.
    """
    last = None
    for picture, _ in itertools.islice(films.frames(content_of(given)), min(count, given.frames or 1)):
        last, count = _fitted(picture, fit), count - 1
        yield last
    while last is not None and count > 0:
        yield last
        count -= 1


def _fitted(picture: Image.Image, fit: Fit | None) -> Image.Image:
    import numpy as np
    from PIL import Image

    if fit is None:
        return picture
    if fit.scaled != fit.given:
        picture = picture.resize((fit.scaled.width, fit.scaled.height), Image.Resampling.LANCZOS)
    picture = picture.crop(crop_box(fit.scaled, fit.cropped))
    if fit.extended != fit.cropped:
        left, top, right, bottom = crop_box(fit.extended, fit.cropped)
        sides = ((top, fit.extended.height - bottom), (left, fit.extended.width - right))
        pixels = np.asarray(picture)
        picture = Image.fromarray(np.pad(pixels, sides + ((0, 0),) * (pixels.ndim - 2), mode="edge"))
    return picture


def _decoded(content: bytes, mask: bool) -> tuple[Image.Image, tuple[str, ...]]:
    """A picture, upright, in RGB or for a mask in one channel, and what was changed to make it so.

    Raises:
        UnreadableError: it is none, or too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            warnings.simplefilter("ignore")  # Pillow's own limit is higher
            if opened.width * opened.height > MAX_PIXELS:
                what = f"has {Size(opened.height, opened.width)} pixels"
                raise UnreadableError(f"{what}; at most {MAX_PIXELS / 1e6:.0f} million are taken")
            changed = [f"the first of {count} frames"] if (count := _frames(opened)) > 1 else []
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            if upright.size != opened.size or opened.getexif().get(0x0112, 1) not in (0, 1):
                changed.append("turned as its EXIF tag says")
            picture = upright.copy()
            picture.info = dict(opened.info)
    except UnreadableError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableError(f"has too many pixels; at most {MAX_PIXELS / 1e6:.0f} million are taken") from error
    except UnidentifiedImageError as error:
        raise UnreadableError(f"is not a picture that can be read ({KINDS})") from error
    except Exception as error:  # Pillow's readers raise many kinds: OSError, SyntaxError, struct.error ...
        raise UnreadableError(f"is damaged or cut short ({' '.join(str(error).split())[:80]})") from error
    for step in (_to_eight_bits, _to_srgb, _without_alpha):
        picture, told = step(picture)
        changed += told
    if mask:
        return picture.convert("L"), tuple(changed)
    if picture.mode == "CMYK":
        changed.append("CMYK turned into RGB")
    return picture.convert("RGB"), tuple(changed)


def _frames(picture: Image.Image) -> int:
    """Frames of an animation; what phones keep beside a JPEG (a gain map, a preview) is none."""
    return 1 if picture.format in ("MPO", "JPEG") else getattr(picture, "n_frames", 1)


def _to_eight_bits(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    import numpy as np
    from PIL import Image

    if picture.mode == "F":
        raise UnreadableError("has floating-point pixels, whose range nobody states")
    if picture.mode.startswith("I"):
        pixels = np.asarray(picture).astype(np.int64)
        if pixels.size and not 0 <= pixels.min() <= pixels.max() < 1 << 16:
            raise UnreadableError("has 32-bit pixels")
        return Image.fromarray(((pixels + 128) // 257).clip(0, 255).astype(np.uint8)), ["16 bits reduced to 8"]
    return picture, []


def _to_srgb(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    """Colours by the profile in the file, as a viewer shows them."""
    from PIL import ImageCms

    profile = picture.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile or picture.mode not in ("RGB", "RGBA", "L", "CMYK"):
        return picture, []
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError):  # a broken profile is as none
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = (ImageCms.getProfileDescription(source) or "").strip()
        if "srgb" in name.lower():
            return picture, []
        mode = "RGBA" if picture.mode == "RGBA" else "RGB"
        shown = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode=mode)
        if shown is not None:
            return shown, [f"colours turned from {name[:40] or 'its profile'} into sRGB"]
    return picture, []


def _without_alpha(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    import numpy as np
    from PIL import Image

    if "transparency" not in picture.info and picture.mode not in ("RGBA", "LA", "PA", "La", "RGBa"):
        return picture, []
    seen = picture.convert("RGBA")
    if np.asarray(seen.getchannel("A")).min(initial=255) == 255:  # all of it is opaque
        return seen.convert("RGB"), []
    white = Image.new("RGBA", seen.size, "white")
    return Image.alpha_composite(white, seen).convert("RGB"), ["transparent parts laid over white"]
