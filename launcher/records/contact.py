"""The pictures of a sweep side by side, each above the settings that set it apart."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw

from launcher.records.captions import readable, wrapped
from launcher.records.files import whole
from launcher.records.picture import first_frame

SIDE = 256  # pixels: longer sides are scaled down to it
GAP = 12
LINE = 16  # pixels of a line of text


def contact_sheet(pictures: list[tuple[Path, str]], path: Path) -> None:
    """Write one PNG with every picture and its caption, row by row.

    Raises:
        OSError: a picture cannot be read, or the sheet cannot be written; no file of its name is left then.
    """
    fonts = [readable(caption) for _, caption in pictures]
    captions = [wrapped(text, font, SIDE) for text, font in fonts]
    small = []
    for file, _ in pictures:
        small.append(first_frame(file))
        small[-1].thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    columns = math.ceil(math.sqrt(len(pictures)))
    tops, bottom = [], GAP  # a row is as high as its highest cell: pictures may be wide
    for first in range(0, len(pictures), columns):
        row = slice(first, first + columns)
        tops.append(bottom)
        bottom += GAP + max(s.height + LINE * len(c) for s, c in zip(small[row], captions[row], strict=True))
    sheet = Image.new("RGB", (GAP + columns * (SIDE + GAP), bottom), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (shown, caption) in enumerate(zip(small, captions, strict=True)):
        left, top = GAP + number % columns * (SIDE + GAP), tops[number // columns]
        sheet.paste(shown, (left, top))
        for line, text in enumerate(caption):
            draw.text((left, top + shown.height + 2 + line * LINE), text, fill="black", font=fonts[number][1])
    with whole(path) as temporary:
        sheet.save(temporary, format="PNG")
