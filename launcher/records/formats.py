"""Output formats: one table of what each can hold and what writes it.

Rules, the schema's help, ranks and records read it. Another format is another row and its YAML in conf/output.

Three texts go into a file, where other programs look for them. PNG: the recipe is an iTXt chunk named `launcher`,
A1111's text one named `parameters`, XMP one named `XML:com.adobe.xmp` (XMP specification part 3). WebP and JPEG: XMP
has the recipe, and A1111's text is the EXIF tag UserComment (0x9286, EXIF 2.32 section 4.6.5), which has a character
code of 8 bytes before the text. A1111 reads it as big-endian UTF-16, so the whole EXIF block is big-endian. MP4: the
recipe is the comment tag, and A1111's text the description.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import codec
from launcher.records.film import COMMENT, DESCRIPTION, Film, encode

if TYPE_CHECKING:  # rules read the table, and a refusal does not wait for Pillow
    from PIL import Image

    from launcher.records.record import Recipe

KEY = "launcher"
PARAMETERS = "parameters"
XMP = "XML:com.adobe.xmp"
USER_COMMENT = 0x9286
EXIF_IFD = 0x8769
ASCII_CODE = b"ASCII\0\0\0"  # before the recipe's JSON in files of schema 2 and older
UNICODE_CODE = b"UNICODE\0"
MAX_RECIPE = 16 << 20  # bytes of JSON: a prompt file of the largest size, escaped, fits
METADATA = ("full", "minimal", "none")  # output.metadata


@dataclass(frozen=True)
class Texts:
    """What is written into a file beside its pixels; an empty text is left out.

    Args:
        recipe: JSON in ASCII.
        parameters: the recipe as other programs read it; then `prompt` and `tool` are those of its XMP.
    """

    recipe: str = ""
    parameters: str = ""
    prompt: str = ""
    tool: str = ""

    @classmethod
    def of(cls, recipe: Recipe, metadata: str) -> Texts:
        """What a file tells of its recipe: "full" for others too, "minimal" for this program alone, or "none"."""
        if metadata == "none":
            return cls()
        told = codec.dumps(recipe)
        if metadata == "minimal":
            return cls(told)
        from launcher.records.readable import (
            TOOL,
            parameters,
        )  # for whoever writes a file, not for all who name a format

        tool = f"{TOOL} {recipe.versions.get('launcher', '')}".strip()
        return cls(told, parameters(recipe), str(recipe.config.get("prompt") or ""), tool)

    def xmp(self, recipe: bool) -> bytes:
        """The XMP packet, with the recipe or without; empty where there is nothing to say."""
        from launcher.records.readable import xmp

        told = self.recipe if recipe else ""
        return xmp(told, self.prompt if self.parameters else None, self.tool) if told or self.parameters else b""

    def user_comment(self) -> bytes:
        """The text of the EXIF tag."""
        return UNICODE_CODE + self.parameters.encode("utf-16-be", "replace")


@dataclass(frozen=True)
class Format:
    """One output format.

    Args:
        name: what is typed, output=NAME, and Pillow's name of what it can write.
        suffix: of its files.
        max_side: pixels each way.
        max_frames: 1 for a format that holds one picture.
        max_recipe: bytes of JSON that fit into the file's metadata, and of each other text.
        write: writes frames with the texts to a path; without a Film they are one picture.
        pixel_bytes: the most that a pixel takes.
        film: it holds films only, has a codec and keeps sound.
    """

    name: str
    suffix: str
    max_side: int
    max_frames: int
    max_recipe: int
    write: Callable[[Sequence[Image.Image], Path, Texts, Film | None], None]
    pixel_bytes: int = 4
    film: bool = False

    def overflow(self, texts: Texts, more: int = 0) -> int:
        """The bytes of the longest text if it has no room in a file, else 0; `more` are still to come."""
        size = max(len(texts.xmp(recipe=True)), len(texts.user_comment())) + more
        return size if size > self.max_recipe else 0


def _png(frames: Sequence[Image.Image], path: Path, texts: Texts, film: Film | None) -> None:
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    if texts.parameters:
        info.add_itxt(PARAMETERS, texts.parameters)
        info.add_itxt(XMP, texts.xmp(recipe=False).decode())
    if texts.recipe:
        info.add_itxt(KEY, texts.recipe)
    frames[0].save(path, format="png", pnginfo=info, **_animation(frames, film))


def _webp(frames: Sequence[Image.Image], path: Path, texts: Texts, film: Film | None) -> None:
    frames[0].save(path, format="webp", lossless=True, **_blocks(texts), **_animation(frames, film))


def _jpeg(frames: Sequence[Image.Image], path: Path, texts: Texts, film: Film | None) -> None:
    frames[0].save(path, format="jpeg", quality=95, subsampling=0, **_blocks(texts))


def _mp4(frames: Sequence[Image.Image], path: Path, texts: Texts, film: Film | None) -> None:
    assert film is not None
    tags = {COMMENT: texts.recipe, DESCRIPTION: texts.parameters.replace("\0", "\ufffd")}  # which would end it
    encode(frames, path, {name: text for name, text in tags.items() if text}, film)


def _blocks(texts: Texts) -> dict[str, Any]:
    """Pillow's options for EXIF and XMP."""
    from PIL import Image

    blocks: dict[str, Any] = {}
    if texts.parameters:
        exif = Image.Exif()
        exif.endian = ">"
        exif.get_ifd(EXIF_IFD)[USER_COMMENT] = texts.user_comment()
        blocks["exif"] = exif
    if packet := texts.xmp(recipe=True):
        blocks["xmp"] = packet
    return blocks


def _animation(frames: Sequence[Image.Image], film: Film | None) -> dict[str, object]:
    """Pillow's options for more than one frame. Frames that repeat are stored once and shown longer."""
    if len(frames) < 2 or film is None:
        return {}
    return {"save_all": True, "append_images": list(frames)[1:], "duration": 1000 / film.fps, "loop": 0}


_ALL = (
    Format("png", ".png", 1 << 16, 1 << 16, MAX_RECIPE, _png),
    Format("webp", ".webp", 16383, 1 << 16, MAX_RECIPE, _webp),
    Format("mp4", ".mp4", 16384, 1 << 16, MAX_RECIPE, _mp4, pixel_bytes=3, film=True),
    # JPEG_MAX_DIMENSION of libjpeg; a segment ends at 65533 bytes
    Format("jpeg", ".jpg", 65500, 1, 65000, _jpeg),
)
FORMATS = {format.name: format for format in _ALL}
