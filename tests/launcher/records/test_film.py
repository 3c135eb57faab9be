"""Films: what a reader that is not ours, ffprobe where there is one, says of them, and what is read back."""

from __future__ import annotations

import itertools
import json
import resource
import shutil
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from shared import ROOT, a_recipe

from launcher.records.film import CODECS, Film, Sound, pixel_format, read
from launcher.records.formats import FORMATS
from launcher.records.picture import extent, first_frame, read_frames, read_recipe, save

RECIPE = a_recipe(config={"prompt": 'a "cat", (sitting)\nünï ☃ 猫 🐈 \x00', "seed": 2**62})
MP4 = FORMATS["mp4"]
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 30, 120)]


def film(height: int, width: int) -> list[Image.Image]:
    return [Image.new("RGB", (width, height), colour) for colour in COLOURS]


def hum(seconds: float, rate: int = 24000, channels: int = 2) -> Sound:
    time = np.arange(round(seconds * rate)) / rate
    return Sound(np.stack([0.5 * np.sin(2 * np.pi * 440 * (1 + c) * time) for c in range(channels)]).astype("f4"), rate)


@pytest.mark.parametrize("codec", list(CODECS))
@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 97)])
def test_a_film_is_what_its_file_says(tmp_path, codec, height, width):
    path = tmp_path / "x.mp4"
    save(film(height, width), path, RECIPE, MP4, Film(12, codec))
    with av.open(path) as container:
        (stream,) = container.streams
        assert (stream.width, stream.height, stream.frames) == (width, height, 7)
        assert stream.average_rate == stream.base_rate == 12
        assert stream.duration * stream.time_base == Fraction(7, 12)
        shown = list(container.decode(stream))
        assert [frame.pts * stream.time_base for frame in shown] == [Fraction(n, 12) for n in range(7)]
        assert {(frame.color_range, frame.colorspace) for frame in shown} == {(1, 1)}
        assert {frame.format.name for frame in shown} == {pixel_format(codec, height, width)}
        context = stream.codec_context
        assert (context.color_primaries, context.color_trc) == (1, 1)
    found = np.stack([np.asarray(frame) for frame in read_frames(path, 12)]).astype(int)
    assert np.abs(found - np.array(COLOURS)[:, None, None]).max() <= 4
    assert np.array_equal(found[0], np.asarray(first_frame(path)))
    assert read_recipe(path) == RECIPE
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # a browser starts before it has the whole
    assert [file.name for file in tmp_path.iterdir()] == ["x.mp4"]


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffprobe")
@pytest.mark.parametrize("codec", list(CODECS))
def test_ffprobe_agrees(tmp_path, codec):
    save(film(66, 130), tmp_path / "x.mp4", RECIPE, MP4, Film(24, codec, sound=hum(2)))
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_format", str(tmp_path / "x.mp4")]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    picture, sound = told["streams"]
    expected = {"width": 130, "height": 66, "pix_fmt": "yuv420p", "r_frame_rate": "24/1", "nb_frames": "7"}
    expected |= {"color_range": "tv", "color_space": "bt709", "color_primaries": "bt709", "color_transfer": "bt709"}
    assert {key: picture[key] for key in expected} == expected
    assert (sound["codec_name"], sound["sample_rate"], sound["channels"]) == ("aac", "24000", 2)
    assert abs(float(told["format"]["duration"]) - 7 / 24) < 0.001
    assert abs(float(sound["duration"]) - 7 / 24) < 0.001


@pytest.mark.parametrize("channels", [1, 2])
def test_sound_is_as_long_as_the_film_and_the_same_tone(tmp_path, channels):
    frames = list(itertools.islice(itertools.cycle(film(16, 16)), 50))
    save(frames, tmp_path / "x.mp4", RECIPE, MP4, Film(25, sound=hum(3, channels=channels)))
    with av.open(tmp_path / "x.mp4") as container:
        heard = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert len(heard) == channels
    assert abs(heard.shape[1] - 2 * 24000) < 2048
    for channel in range(channels):
        spectrum = np.abs(np.fft.rfft(heard[channel, 4096 : 4096 + 24000]))
        assert abs(int(spectrum.argmax()) - 440 * (1 + channel)) <= 1
    short = tmp_path / "short.mp4"
    save(frames, short, RECIPE, MP4, Film(25, sound=hum(0.5)))  # what is there is kept
    with av.open(short) as container:
        assert abs(sum(frame.samples for frame in container.decode(audio=0)) - 12000) < 2048


def test_a_lower_crf_is_closer(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    errors = []
    for crf in (0, 18, 51):
        save([Image.fromarray(frame) for frame in pixels], tmp_path / f"{crf}.mp4", RECIPE, MP4, Film(5, crf=crf))
        read_back = np.stack([np.asarray(frame) for frame in read_frames(tmp_path / f"{crf}.mp4", 5)])
        errors.append(np.abs(read_back.astype(int) - pixels).mean())
    assert errors[0] < errors[1] < errors[2]


def test_a_full_disk_leaves_no_film(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save(film(64, 64), tmp_path / "x.mp4", RECIPE, MP4, Film(5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


class Interrupting(list):
    """Frames of which the third never comes."""

    def __iter__(self):
        yield from self[:2]
        raise KeyboardInterrupt


def test_an_interrupted_film_leaves_no_file(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        save(Interrupting(film(64, 64)), tmp_path / "x.mp4", RECIPE, MP4, Film(5))
    assert list(tmp_path.iterdir()) == []


def test_a_picture_is_no_film(tmp_path):
    with pytest.raises(ValueError, match="type output=png"):
        save(film(64, 64)[:1], tmp_path / "x.mp4", RECIPE, MP4)


@pytest.mark.parametrize("length", [8, 40, 700, -1])
def test_a_film_that_is_cut_short_is_told(tmp_path, length):
    save(film(64, 64), tmp_path / "x.mp4", RECIPE, MP4, Film(5))
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "x.mp4").read_bytes()[:length])
    if length > 0:
        with pytest.raises(ValueError, match=r"cut\.mp4 (is not a readable film|carries no recipe)"):
            read_recipe(tmp_path / "cut.mp4")
        with pytest.raises(OSError, match=r"."):
            first_frame(tmp_path / "cut.mp4")


def test_a_playlist_is_not_followed(tmp_path):
    """FFmpeg's other formats may open files and addresses; only MP4 is read, through a file that is open already."""
    (tmp_path / "x.mp4").write_bytes(b"\0\0\0\x08ftypffconcat version 1.0\nfile /etc/passwd\n")
    with pytest.raises(ValueError, match="is not a readable film"):
        read_recipe(tmp_path / "x.mp4")


LONG = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
import av
from launcher.records.film import Film, encode

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024

class Frames:
    def __init__(self, count):
        self.count = count
        self.noise = np.random.default_rng(0).integers(0, 60, (720, 1280, 3), dtype=np.uint8)
    def __len__(self):
        return self.count
    def __getitem__(self, number):
        if number >= self.count:
            raise IndexError
        return Image.fromarray(np.roll(self.noise, 7 * number, axis=1))

shown = Frames(int(sys.argv[1]))
[shown[number] for number in range(3)]
before = peak()
encode(shown, Path(sys.argv[2]), {}, Film(24, sys.argv[3]))
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("codec", "count"), [("h264", 240), ("h265", 24)])  # 240 took 80 MB of h265, and 14 s
def test_a_long_film_adds_no_more_memory_than_a_short_one(tmp_path, codec, count):
    """240 frames of 1280 x 720: at most 100 MB, with the encoder's own code."""
    command = [sys.executable, "-c", LONG, str(count), str(tmp_path / "x.mp4"), codec]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env={"OMP_NUM_THREADS": "2"})
    assert float(told.stdout) < 100
    with av.open(tmp_path / "x.mp4") as container:
        assert container.streams.video[0].frames == count


BOTH = {"comment", "description"}


@pytest.mark.parametrize(("metadata", "kept"), [("full", BOTH), ("minimal", {"comment"}), ("none", set())])
def test_a_film_tells_what_a_picture_tells(tmp_path, metadata, kept):
    save(film(64, 64), tmp_path / "x.mp4", RECIPE, MP4, Film(5), metadata)
    with av.open(tmp_path / "x.mp4") as container:
        assert set(container.metadata) & {"comment", "description"} == kept
        assert container.metadata.get("description", 'a "cat"').startswith('a "cat"')
    assert extent(tmp_path / "x.mp4") == (64, 64, 7)


def test_reading_makes_one_frame_after_the_other(tmp_path):
    save(film(64, 64), tmp_path / "x.mp4", RECIPE, MP4, Film(5))
    with Path(tmp_path / "x.mp4").open("rb") as file:
        frames = read(file)
        assert next(frames).size == (64, 64)
        assert sum(1 for _ in frames) == 6
