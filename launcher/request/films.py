"""A film that a request starts from: decoded before anything starts, as far as its frames are needed.

Only containers whose readers open no other file are taken, through a file that is open already.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.reading import UnreadableError, read_bytes
from launcher.request.geometry import Size

if TYPE_CHECKING:
    from PIL import Image

MAX_BYTES = 1 << 30
MAX_PIXELS = 33_177_600  # of a frame: 7680 x 4320
KINDS = "MP4, MOV, WebM or MKV"
BT601 = (5, 6)  # in FFmpeg's enumeration of colour spaces: of standard definition


@functools.lru_cache(16)
def looked(path: Path, _changed: tuple[int, int], most: int) -> tuple[str, Size, int, tuple[str, ...]]:
    """A film's digest, its upright size, its frames up to `most`, and what has to be changed in it.

    Raises:
        UnreadableError: it is none, too large or damaged.
    """
    content = read_bytes(path, MAX_BYTES)
    count, size = 0, Size(0, 0)
    changed: tuple[str, ...] = ()
    for picture, told in frames(content):
        if count == most:
            changed = (*changed, f"its first {most} frames")
            break
        count, size, changed = count + 1, Size(picture.height, picture.width), told
    if not count:
        raise UnreadableError("has no frame that can be read; it is cut short, perhaps")
    return hashlib.sha256(content).hexdigest(), size, count, changed


def frames(content: bytes) -> Iterator[tuple[Image.Image, tuple[str, ...]]]:
    """The frames of a film, upright, in RGB, and what was changed to make each so.

    Raises:
        UnreadableError: it is none, too large or damaged.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace
    from PIL import Image

    with _told():
        kind = "mp4" if content[4:8] == b"ftyp" else "matroska" if content[:4] == b"\x1aE\xdf\xa3" else None
        if kind is None:
            raise UnreadableError(f"is not a film that can be read ({KINDS})")
        with av.open(io.BytesIO(content), "r", format=kind) as container:
            if not container.streams.video:
                raise UnreadableError("is a film without pictures")
            stream: Any = container.streams.video[0]
            _bounded(stream)
            for frame in container.decode(stream):
                _bounded(frame)
                shown = frame.reformat(
                    format="rgb24",
                    src_colorspace=Colorspace.ITU601 if frame.colorspace in BT601 else Colorspace.ITU709,
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=ColorRange.JPEG,
                )
                picture, turn = Image.fromarray(shown.to_ndarray()), int(getattr(frame, "rotation", 0)) % 360
                if turn:
                    yield picture.rotate(turn, expand=True), ("turned as its tag says",)
                else:
                    yield picture, ()


def _bounded(shown: Any) -> None:
    if shown.width * shown.height > MAX_PIXELS:
        what = f"has frames of {Size(shown.height, shown.width)} pixels"
        raise UnreadableError(f"{what}; at most {MAX_PIXELS / 1e6:.0f} million are taken")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    import av

    try:
        yield
    except UnreadableError:
        raise
    except (av.FFmpegError, ValueError, MemoryError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:80]
        raise UnreadableError(f"is damaged or cut short ({why})") from error
