"""Pictures and videos that carry their own recipe, and reading both back.

A video is an MP4, or an animated PNG or WebP, lossless as pictures are. How each format stores the recipe: formats.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageSequence

from launcher import codec
from launcher.reading import UnreadableError, opened
from launcher.records import film as films
from launcher.records.files import whole
from launcher.records.film import Film
from launcher.records.formats import ASCII_CODE, EXIF_IFD, FORMATS, KEY, MAX_RECIPE, USER_COMMENT, Format, Texts
from launcher.records.readable import recipe_in
from launcher.records.record import Recipe

STILLS = [format.name.upper() for format in FORMATS.values() if not format.film]  # Pillow's names of what it may read


def save(
    frames: Sequence[Image.Image],
    path: Path,
    recipe: Recipe,
    format: Format,
    film: Film | None = None,
    metadata: str = "full",
) -> None:
    """Write a picture, or a video's frames, under the final name, whole, with the recipe inside.

    Args:
        film: of a video.
        metadata: a word of formats.METADATA.

    Raises:
        OSError: the disk is full or the folder is gone; no file of that name is left then.
        ValueError: the format cannot hold it.
    """
    if film is None and format.film:
        raise ValueError(f"a {format.name} file holds a film, and this is a picture; type output=png")
    if len(frames) > 1 and (film is None or format.max_frames < len(frames)):
        able = " or ".join(f"output={other.name}" for other in FORMATS.values() if other.max_frames >= len(frames))
        rate = "null" if film is None else film.fps
        raise ValueError(f"{len(frames)} frames do not fit into a {format.name} file at fps={rate}; type {able}")
    if max(frames[0].size) > format.max_side:
        raise ValueError(f"{format.name} files end at {format.max_side} pixels a side; type output=png")
    inside = Texts.of(recipe, metadata)
    if size := format.overflow(inside):
        raise ValueError(f"a recipe of {size} bytes does not fit into a {format.name} file; type output=png")
    with whole(path) as temporary:
        format.write(frames, temporary, inside, film)


def read_frames(path: Path, fps: int | None) -> list[Image.Image]:
    """Read a picture, or all frames of a video of `fps` frames a second, repeated ones too.

    Raises:
        OSError, ValueError: the file can't be read, or is not a picture.
    """
    return list(frames_of(path, fps))


def first_frame(path: Path) -> Image.Image:
    """Read a picture, or a video's first frame.

    Raises:
        OSError: the file can't be read, or is not a picture.
    """
    try:
        return next(frames_of(path, None))
    except OSError:
        raise
    except Exception as error:  # Pillow's readers raise many kinds: SyntaxError, struct.error, a bomb's ...
        raise OSError(f"{path}: no picture that can be read ({error})") from error


def extent(path: Path) -> tuple[int, int, int]:
    """Height, width and frames of a file, by its headers alone.

    Raises:
        OSError, ValueError: it can't be read, or is not a picture.
    """
    with path.open("rb") as file:
        if films.is_film(file.read(films.START)):
            file.seek(0)
            return films.extent(file)
    with Image.open(path, formats=[name.upper() for name, format in FORMATS.items() if not format.film]) as picture:
        return picture.height, picture.width, getattr(picture, "n_frames", 1)


def frames_of(path: Path, fps: int | None) -> Iterator[Image.Image]:
    """The frames of `read_frames`, one after the other."""
    with path.open("rb") as file:
        if films.is_film(file.read(films.START)):
            file.seek(0)
            yield from films.read(file)
            return
    with Image.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            shown = frame.convert("RGB")  # WebP's durations are known once a frame was read
            yield from itertools.repeat(shown, max(1, round(frame.info.get("duration", 0) * (fps or 0) / 1000)))


def read_recipe(path: Path) -> Recipe:
    """Read the recipe in a picture; nothing in it is executed.

    Raises:
        ValueError: the file can't be read, is not a picture, or has no recipe of ours in it.
    """
    try:
        with opened(path) as (file, _):  # a pipe would block
            film = films.is_film(file.read(films.START))
    except UnreadableError as error:
        raise ValueError(f"{path.name} {error}") from error
    try:
        text = _in_film(path) if film else _in_picture(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # whatever Pillow finds wrong
        if "MAX_TEXT_CHUNK" in str(error):
            raise ValueError(f"{path.name}: a compressed text in it unpacks to more than 1 MiB") from error
        raise ValueError(f"{path.name} is not a readable {'film' if film else 'picture'}") from error
    if not text or len(text) > MAX_RECIPE:
        raise ValueError(f"{path.name} carries no recipe")
    try:
        return codec.loads(Recipe, text)
    except ValueError as error:
        raise ValueError(f"{path.name} carries no recipe of this program ({error})") from error


def _in_film(path: Path) -> str:
    with path.open("rb") as file:
        return films.comment(file)


def _in_picture(path: Path) -> str | None:
    with Image.open(path, formats=[name.upper() for name, format in FORMATS.items() if not format.film]) as image:
        text: str | None = image.info.get(KEY)
        if text is None and isinstance(packet := image.info.get("xmp"), bytes):
            text = recipe_in(packet)
        if text is None:  # schema 2 and older
            comment = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT, b"")
            old = isinstance(comment, bytes) and comment.startswith(ASCII_CODE)
            text = comment.removeprefix(ASCII_CODE).decode("ascii") if old else ""
        return text
