"""Pictures and videos that carry their own recipe, and reading both back.

A video is an animated PNG or WebP, lossless as pictures are. How each format stores the recipe: formats.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageSequence

from launcher import codec
from launcher.reading import UnreadableError, opened
from launcher.records.files import whole
from launcher.records.formats import ASCII_CODE, EXIF_IFD, FORMATS, KEY, MAX_RECIPE, USER_COMMENT, Format, Texts
from launcher.records.readable import recipe_in
from launcher.records.record import Recipe


def save(
    frames: Sequence[Image.Image],
    path: Path,
    recipe: Recipe,
    format: Format,
    fps: int | None = None,
    metadata: str = "full",
) -> None:
    """Write a picture, or a video's frames, under the final name, whole, with the recipe inside.

    Args:
        fps: frames a second of a video.
        metadata: a word of formats.METADATA.

    Raises:
        OSError: the disk is full or the folder is gone; no file of that name is left then.
        ValueError: the format cannot hold it.
    """
    if len(frames) > 1 and (fps is None or format.max_frames < len(frames)):
        able = " or ".join(f"output={other.name}" for other in FORMATS.values() if other.max_frames >= len(frames))
        raise ValueError(f"{len(frames)} frames do not fit into a {format.name} file at fps={fps}; type {able}")
    if max(frames[0].size) > format.max_side:
        raise ValueError(f"{format.name} files end at {format.max_side} pixels a side; type output=png")
    inside = Texts.of(recipe, metadata)
    if size := format.overflow(inside):
        raise ValueError(f"a recipe of {size} bytes does not fit into a {format.name} file; type output=png")
    with whole(path) as temporary:
        format.write(frames, temporary, inside, fps)


def read_frames(path: Path, fps: int | None) -> list[Image.Image]:
    """Read a picture, or all frames of a video of `fps` frames a second, repeated ones too.

    Raises:
        OSError: the file can't be read, or is not a picture.
    """
    with Image.open(path) as image:
        shown = [(frame.convert("RGB"), frame.info.get("duration", 0)) for frame in ImageSequence.Iterator(image)]
    return [frame for frame, duration in shown for _ in range(max(1, round(duration * (fps or 0) / 1000)))]


def read_recipe(path: Path) -> Recipe:
    """Read the recipe in a picture; nothing in it is executed.

    Raises:
        ValueError: the file can't be read, is not a picture, or has no recipe of ours in it.
    """
    try:
        with opened(path):  # a pipe would block
            pass
    except UnreadableError as error:
        raise ValueError(f"{path.name} {error}") from error
    try:
        with Image.open(path, formats=[name.upper() for name in FORMATS]) as image:
            text = image.info.get(KEY)
            if text is None and isinstance(packet := image.info.get("xmp"), bytes):
                text = recipe_in(packet)
            if text is None:  # schema 2 and older
                comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
                old = isinstance(comment, bytes) and comment.startswith(ASCII_CODE)
                text = comment.removeprefix(ASCII_CODE).decode("ascii") if old else ""
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # whatever Pillow finds wrong
        if "MAX_TEXT_CHUNK" in str(error):
            raise ValueError(f"{path.name}: a compressed text in it unpacks to more than 1 MiB") from error
        raise ValueError(f"{path.name} is not a readable picture") from error
    if not text or len(text) > MAX_RECIPE:
        raise ValueError(f"{path.name} carries no recipe")
    try:
        return codec.loads(Recipe, text)
    except ValueError as error:
        raise ValueError(f"{path.name} carries no recipe of this program ({error})") from error
