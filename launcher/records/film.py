"""Films: MP4 with H.264, H.265 or AV1, with sound where there is any, and reading them back.

By PyAV, whose wheel brings FFmpeg with its encoders. A film is encoded frame by frame, so that what the encoder holds
does not grow with its length. The recipe is the container's comment tag. Colours are BT.709 in limited range, and
tagged so. H.264 and H.265 halve the colours' resolution in whole pairs of pixels: an odd size, which would have to be
scaled or cut, is encoded with colours at full resolution (yuv444p) instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:  # rules read the table, and a refusal waits for no library
    import av
    import numpy as np
    from PIL import Image

COMMENT, DESCRIPTION = "comment", "description"  # tags
START = 8  # bytes at the start of a file that tell whether it is an MP4
BT709 = 1  # in H.273's tables of primaries, transfer and matrix, and in FFmpeg's enumerations of them
LIMITED, FULL = 1, 2  # AVColorRange: luma from 16 to 235, from 0 to 255
THREADS = 3  # that an encoder works with on any machine: each holds frames, and the bytes follow from their number
SOUND_BITS = 192_000  # a second, of AAC


@dataclass(frozen=True)
class Codec:
    """How a film's pictures are encoded.

    Args:
        name: what is typed, output.codec=NAME.
        encoder: FFmpeg's name of it.
        crf: the quality when none is asked for: 0 is best, `worst` the other end.
        least, most: pixels each way.
        even: takes even sizes only where colours have half the resolution.
        options: of the encoder: short look-ahead, so that it holds few frames.
    """

    name: str
    encoder: str
    crf: int
    worst: int
    least: int
    most: int
    even: bool
    options: dict[str, str] = field(default_factory=dict)
    tag: str | None = None


_ALL = (
    Codec(
        "h264", "libx264", 18, 51, 1, 16384, True,
        {"x264-params": "rc-lookahead=5:sync-lookahead=0:bframes=2:ref=2"},
    ),
    Codec(
        "h265", "libx265", 20, 51, 64, 8192, True,
        {
            "preset": "fast",
            "x265-params": "log-level=1:frame-threads=1:pools=none:wpp=0:lookahead-slices=0:rc-lookahead=1:bframes=0:"
            "ref=1:allow-non-conformance=1",
        },
        tag="hvc1",  # by which Apple's players know it
    ),
    Codec("av1", "libsvtav1", 24, 63, 64, 8192, False, {"preset": "8", "svtav1-params": "lp=2:pred-struct=1"}),
)  # fmt: skip
CODECS = {codec.name: codec for codec in _ALL}


@dataclass(frozen=True)
class Sound:
    """What is heard: (channels, samples) in float32 from -1 to 1, `rate` samples a second."""

    samples: np.ndarray
    rate: int


@dataclass(frozen=True)
class Film:
    """How frames follow each other, and how they are encoded where the format leaves a choice."""

    fps: int
    codec: str = "h264"
    crf: int | None = None
    sound: Sound | None = None


def pixel_format(codec: str, height: int, width: int) -> str:
    """FFmpeg's name of how a film's pixels are stored: half the colours' resolution unless a size is odd."""
    return "yuv444p" if CODECS[codec].even and (height % 2 or width % 2) else "yuv420p"


def encode(frames: Sequence[Image.Image], path: Path, tags: dict[str, str], film: Film) -> None:
    """Encode a film, one frame after the other.

    Args:
        tags: of the container: texts by name.

    Raises:
        OSError: it can't be written.
    """
    import av
    import numpy as np
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    codec = CODECS[film.codec]
    width, height = frames[0].size
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        container.metadata.update(tags)
        crf = codec.crf if film.crf is None else film.crf
        video: Any = container.add_stream(codec.encoder, rate=film.fps, options={"crf": str(crf), **codec.options})
        video.width, video.height, video.pix_fmt = width, height, pixel_format(film.codec, height, width)
        context = video.codec_context
        context.thread_count = THREADS
        context.color_range = LIMITED
        context.colorspace = context.color_primaries = context.color_trc = BT709
        if codec.tag is not None:
            context.codec_tag = codec.tag
        track = _Track(container, film.sound, len(frames) / film.fps) if film.sound is not None else None
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGB")), "rgb24").reformat(
                format=video.pix_fmt,
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=Interpolation.AREA,
            )
            frame.pts = number
            container.mux(video.encode(frame))
            if track is not None:  # at once: what is not in turn is held until the other track is as far
                track.until((number + 1) / film.fps)
        container.mux(video.encode(None))
        if track is not None:
            track.end()


class _Track:
    """The sound of a film that is being written, as long as its pictures."""

    def __init__(self, container: Any, sound: Sound, seconds: float) -> None:
        self.container, self.rate = container, sound.rate
        self.samples = sound.samples[:, : round(seconds * sound.rate)]
        self.layout = "mono" if len(self.samples) == 1 else "stereo"
        self.stream = container.add_stream("aac", rate=sound.rate, layout=self.layout)
        self.stream.bit_rate = SOUND_BITS
        self.written = 0

    def until(self, seconds: float) -> None:
        """Encode whole blocks of what is heard until then."""
        block = 1024  # samples of an AAC frame
        while self.written + block <= min(round(seconds * self.rate), self.samples.shape[1]):
            self._write(block)

    def end(self) -> None:
        """Encode the rest."""
        while self.written < self.samples.shape[1]:
            self._write(min(1024, self.samples.shape[1] - self.written))
        self.container.mux(self.stream.encode(None))

    def _write(self, count: int) -> None:
        import av
        import numpy as np

        part = np.ascontiguousarray(self.samples[:, self.written : self.written + count], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=self.layout)
        frame.sample_rate, frame.pts = self.rate, self.written
        self.written += count
        self.container.mux(self.stream.encode(frame))


def is_film(start: bytes) -> bool:
    """Whether a file that starts with these bytes is an MP4."""
    return start[4:8] == b"ftyp"


def comment(file: BinaryIO) -> str:
    """The comment tag of a film, "" without one.

    Raises:
        ValueError: it can't be read.
    """
    with _opened(file) as container:
        return str(container.metadata.get(COMMENT, ""))


def extent(file: BinaryIO) -> tuple[int, int, int]:
    """Height, width and frames of a film, by its headers.

    Raises:
        ValueError: it can't be read, or holds no pictures.
    """
    with _opened(file) as container:
        if not container.streams.video:
            raise ValueError("it has no pictures")
        stream = container.streams.video[0]
        return stream.height, stream.width, stream.frames


def read(file: BinaryIO) -> Iterator[Image.Image]:
    """The frames of a film, one after the other.

    Raises:
        ValueError: it can't be read, or holds no pictures.
    """
    from av.video.reformatter import ColorRange, Colorspace
    from PIL import Image

    with _opened(file) as container:
        if not container.streams.video:
            raise ValueError("it has no pictures")
        for frame in container.decode(container.streams.video[0]):
            shown = frame.reformat(
                format="rgb24",
                src_colorspace=Colorspace.ITU709,
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG if frame.color_range == FULL else ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG,
            )
            yield Image.fromarray(shown.to_ndarray())


@contextlib.contextmanager
def _opened(file: BinaryIO) -> Iterator[av.container.InputContainer]:
    """A film, read through a file that is open: FFmpeg opens none itself, whatever the film refers to."""
    import av

    try:
        with av.open(file, "r", format="mp4") as container:
            yield container
    except av.FFmpegError as error:  # of many kinds: EOFError, LookupError ...
        raise ValueError(f"it is damaged ({error.strerror})") from error
