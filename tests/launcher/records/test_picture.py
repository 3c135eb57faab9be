import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shared import a_recipe

from launcher.records.film import Film
from launcher.records.formats import FORMATS, Texts
from launcher.records.picture import read_frames, read_recipe, save

PICTURES = [name for name, format in FORMATS.items() if not format.film]  # films: test_film.py
RECIPE = a_recipe(config={"prompt": 'a "cat", (sitting)\nünï ☃ 猫 🐈 \x00', "seed": 2**62})


@pytest.fixture
def image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("format", PICTURES)
def test_a_picture_carries_its_recipe(tmp_path, image, format):
    path = tmp_path / f"x{FORMATS[format].suffix}"
    save([image], path, RECIPE, FORMATS[format])
    assert read_recipe(path) == RECIPE
    with Image.open(path) as read:
        assert (read.format or "").lower() == format
        assert read.size == image.size
        if format != "jpeg":
            assert np.array_equal(np.asarray(read), np.asarray(image))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("format", ["png", "webp"])
@pytest.mark.parametrize("fps", [1, 16, 25, 30, 144, 1000])
def test_a_video_is_lossless_and_carries_its_recipe(tmp_path, format, fps):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 10, 14, 3), dtype=np.uint8)
    pixels[3:6] = pixels[2]  # frames that repeat
    frames = [Image.fromarray(frame) for frame in pixels]
    path = tmp_path / f"x{FORMATS[format].suffix}"
    save(frames, path, RECIPE, FORMATS[format], Film(fps))
    assert read_recipe(path) == RECIPE
    assert np.array_equal(np.stack(read_frames(path, fps)), pixels)
    with Image.open(path) as read:
        shown = 0.0
        for number in range(read.n_frames):
            read.seek(number)
            read.load()
            shown += read.info["duration"]
    assert abs(shown - 7 * 1000 / fps) <= 1  # WebP counts whole milliseconds


def test_a_video_of_one_frame_is_a_picture(tmp_path, image):
    for format in ("png", "webp"):
        save([image], tmp_path / "x", RECIPE, FORMATS[format], Film(16))
        assert [np.array_equal(frame, image) for frame in read_frames(tmp_path / "x", 16)] == [True]


@pytest.mark.parametrize(("format", "fps"), [("jpeg", 16), ("png", None)])
def test_frames_need_a_format_and_a_rate(tmp_path, image, format, fps):
    with pytest.raises(ValueError, match="type output=png or output=webp"):
        save([image, image], tmp_path / "x", RECIPE, FORMATS[format], fps and Film(fps))
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_does_not_fit_is_an_error(tmp_path, image):
    with pytest.raises(ValueError, match="output=png"):
        save([image], tmp_path / "x.jpg", a_recipe(config={"prompt": "a" * 70_000}), FORMATS["jpeg"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", list(FORMATS))
def test_the_longest_recipe_fits(tmp_path, image, format):
    """The longest prompt file, of letters that JSON escapes; for JPEG as much as its row says."""
    least = len(Texts.of(a_recipe(config={"prompt": ""}), "full").xmp(recipe=True))
    length = min(1 << 20, (FORMATS[format].max_recipe - least) // 9)  # six of JSON, three of the replacement in XML
    recipe = a_recipe(config={"prompt": "\x01" * length})
    save([image], tmp_path / "x", recipe, FORMATS[format], Film(1) if FORMATS[format].film else None)
    assert read_recipe(tmp_path / "x") == recipe


@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_a_picture_that_is_too_large_is_an_error(tmp_path, format):
    most = FORMATS[format].max_side
    save([Image.new("RGB", (most, 1))], tmp_path / "x", RECIPE, FORMATS[format])
    with pytest.raises(ValueError, match=f"end at {most} pixels"):
        save([Image.new("RGB", (1, most + 1))], tmp_path / "y", RECIPE, FORMATS[format])
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_picture_without_a_recipe(tmp_path, image):
    for format in (FORMATS[name] for name in PICTURES):
        image.save(tmp_path / f"x{format.suffix}")
        with pytest.raises(ValueError, match="no recipe"):
            read_recipe(tmp_path / f"x{format.suffix}")


def test_a_file_of_another_kind_is_told(tmp_path):
    os.mkfifo(tmp_path / "x.png")  # to read it would wait for a writer
    with pytest.raises(ValueError, match=r"x.png is a pipe, not a regular file"):
        read_recipe(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"none.png can't be read \(No such file or directory\)"):
        read_recipe(tmp_path / "none.png")


@settings(max_examples=50)
@given(data=st.binary(max_size=200))
def test_no_bytes_do_more_than_say_that_it_is_no_picture(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bytes") / "x.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="not a readable picture"):
        read_recipe(path)


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"schema": "x"}', "[" * 5000])
def test_a_foreign_chunk_is_no_recipe(tmp_path, image, text):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("launcher", text)
    image.save(tmp_path / "x.png", pnginfo=info)
    with pytest.raises(ValueError, match="recipe"):
        read_recipe(tmp_path / "x.png")
