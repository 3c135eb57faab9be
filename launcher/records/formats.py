"""Output formats: one table of what each can hold and what writes it.

Rules, the schema's help, ranks and records read it. Another format is another row and its YAML in conf/output.

PNG: the recipe is an iTXt chunk named `launcher`. WebP and JPEG: it is the EXIF tag UserComment (0x9286, EXIF 2.32
section 4.6.5), which has a character code of 8 bytes before the text. MP4: it is the comment tag (film.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.records.film import Film, encode

if TYPE_CHECKING:  # rules read the table, and a refusal does not wait for Pillow
    from PIL import Image

KEY = "launcher"
USER_COMMENT = 0x9286
EXIF_IFD = 0x8769
ASCII_CODE = b"ASCII\0\0\0"  # the recipe's JSON escapes the rest
MAX_RECIPE = 16 << 20  # bytes of JSON: a prompt file of the largest size, escaped, fits


@dataclass(frozen=True)
class Format:
    """One output format.

    Args:
        name: what is typed, output=NAME, and Pillow's name of what it can write.
        suffix: of its files.
        max_side: pixels each way.
        max_frames: 1 for a format that holds one picture.
        max_recipe: bytes of JSON that fit into the file's metadata.
        write: writes frames with the recipe to a path; without a Film they are one picture.
        pixel_bytes: the most that a pixel takes.
        film: it holds films only, has a codec and keeps sound.
    """

    name: str
    suffix: str
    max_side: int
    max_frames: int
    max_recipe: int
    write: Callable[[Sequence[Image.Image], Path, str, Film | None], None]
    pixel_bytes: int = 4
    film: bool = False


def _png(frames: Sequence[Image.Image], path: Path, recipe: str, film: Film | None) -> None:
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_itxt(KEY, recipe)
    frames[0].save(path, format="png", pnginfo=info, **_animation(frames, film))


def _webp(frames: Sequence[Image.Image], path: Path, recipe: str, film: Film | None) -> None:
    frames[0].save(path, format="webp", exif=_exif(recipe), lossless=True, **_animation(frames, film))


def _jpeg(frames: Sequence[Image.Image], path: Path, recipe: str, film: Film | None) -> None:
    frames[0].save(path, format="jpeg", exif=_exif(recipe), quality=95, subsampling=0)


def _exif(recipe: str) -> Image.Exif:
    from PIL import Image

    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = ASCII_CODE + recipe.encode("ascii")
    return exif


def _animation(frames: Sequence[Image.Image], film: Film | None) -> dict[str, object]:
    """Pillow's options for more than one frame. Frames that repeat are stored once and shown longer."""
    if len(frames) < 2 or film is None:
        return {}
    return {"save_all": True, "append_images": list(frames)[1:], "duration": 1000 / film.fps, "loop": 0}


_ALL = (
    Format("png", ".png", 1 << 16, 1 << 16, MAX_RECIPE, _png),
    Format("webp", ".webp", 16383, 1 << 16, MAX_RECIPE, _webp),
    Format("mp4", ".mp4", 16384, 1 << 16, MAX_RECIPE, encode, pixel_bytes=3, film=True),
    Format("jpeg", ".jpg", 65500, 1, 65000, _jpeg),  # JPEG_MAX_DIMENSION of libjpeg; a segment ends at 65533 bytes
)
FORMATS = {format.name: format for format in _ALL}
