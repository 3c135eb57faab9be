"""The pictures of a sweep side by side, each above the settings that set it apart."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from launcher.records.files import whole

SIDE = 256  # pixels: longer sides are scaled down to it
GAP = 12
LINE = 16  # pixels of a line of text
COLUMN_CHARACTERS = 38


def contact_sheet(pictures: list[tuple[Path, str]], path: Path) -> None:
    """Write one PNG with every picture and its caption, row by row.

    Raises:
        OSError: a picture cannot be read, or the sheet cannot be written; no file of its name is left then.
    """
    captions = [textwrap.wrap(caption, COLUMN_CHARACTERS) for _, caption in pictures]
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    cell = (SIDE + GAP, SIDE + GAP + LINE * max(len(caption) for caption in captions))
    sheet = Image.new("RGB", (GAP + columns * cell[0], GAP + rows * cell[1]), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for number, ((file, _), caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = GAP + number % columns * cell[0], GAP + number // columns * cell[1]
        with Image.open(file) as picture:
            small = picture.convert("RGB")
        small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(small, (left, top))
        for line, text in enumerate(caption):
            draw.text((left, top + small.height + 2 + line * LINE), text, fill="black", font=font)
    with whole(path) as temporary:
        sheet.save(temporary, format="PNG")
