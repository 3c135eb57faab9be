"""Pictures and videos that carry their own recipe: how they were made, as JSON in the file's metadata.

A video is an animated PNG or WebP, lossless as pictures are: Pillow writes both, and a video encoder is not at hand.

PNG: an iTXt chunk named `launcher`. WebP and JPEG: the EXIF tag UserComment (0x9286, EXIF 2.32 section 4.6.5), which
has a character code of 8 bytes before the text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageSequence, PngImagePlugin

from launcher.records.files import whole

KEY = "launcher"
USER_COMMENT = 0x9286
EXIF_IFD = 0x8769
ASCII_CODE = b"ASCII\0\0\0"  # json.dumps escapes the rest
MAX_RECIPE = 1 << 20
JPEG_EXIF_ROOM = 65000  # bytes: a JPEG segment ends at 65533
SUFFIX = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}


def save(
    frames: Sequence[Image.Image], path: Path, recipe: dict[str, Any], format: str, fps: int | None = None
) -> None:
    """Write a picture, or a video's frames, under the final name, whole, with the recipe inside.

    Args:
        fps: frames a second of a video. Frames that repeat are stored once and shown longer.

    Raises:
        OSError: the disk is full or the folder is gone; no file of that name is left then.
        ValueError: the recipe does not fit into the format's metadata.
    """
    if len(frames) > 1 and (fps is None or format == "jpeg"):
        raise ValueError(f"{len(frames)} frames in a {format} file at fps={fps}; type output=webp or output=png")
    text = json.dumps(recipe)
    options: dict[str, Any]
    if format == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt(KEY, text)
        options = {"pnginfo": info}
    else:
        if format == "jpeg" and len(text) > JPEG_EXIF_ROOM:
            raise ValueError(f"a recipe of {len(text)} bytes does not fit into a JPEG; type output=png")
        exif = Image.Exif()
        exif.get_ifd(EXIF_IFD)[USER_COMMENT] = ASCII_CODE + text.encode("ascii")
        options = {"exif": exif, **({"lossless": True} if format == "webp" else {"quality": 95, "subsampling": 0})}
    if len(frames) > 1 and fps is not None:
        options |= {"save_all": True, "append_images": frames[1:], "duration": 1000 / fps, "loop": 0}
    with whole(path) as temporary:
        frames[0].save(temporary, format=format, **options)


def read_frames(path: Path, fps: int | None) -> list[Image.Image]:
    """A picture, or all frames of a video of `fps` frames a second, repeated ones too.

    Raises:
        OSError: the file cannot be read, or is no picture.
    """
    with Image.open(path) as image:
        shown = [(frame.convert("RGB"), frame.info.get("duration", 0)) for frame in ImageSequence.Iterator(image)]
    return [frame for frame, duration in shown for _ in range(max(1, round(duration * (fps or 0) / 1000)))]


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe in a picture, as data; nothing in it is executed.

    Raises:
        ValueError: the file is no picture, or has no recipe of ours in it.
        OSError: the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            text = image.info.get(KEY)
            if text is None:
                comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
                text = comment.removeprefix(ASCII_CODE).decode("ascii") if isinstance(comment, bytes) else ""
    except (SyntaxError, Image.DecompressionBombError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is no picture that can be read") from error
    except OSError as error:
        if error.errno is None:  # Pillow's own: an unknown or broken format
            raise ValueError(f"{path.name} is no picture that can be read") from error
        raise
    if not text or len(text) > MAX_RECIPE:
        raise ValueError(f"{path.name} carries no recipe")
    try:
        recipe = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} carries a recipe that cannot be read") from error
    if not isinstance(recipe, dict) or not isinstance(recipe.get("schema"), int):
        raise ValueError(f"{path.name} carries no recipe of this program")
    return recipe
