"""Pictures of the wild: what is said of them, what is done to them, and what is refused."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from launcher.request.geometry import Size
from launcher.request.pictures import MAX_PIXELS, Given, covering, listed, look, ready

ORIENTATION = 0x0112


@pytest.fixture
def pixels() -> np.ndarray:
    y, x = np.mgrid[:20, :30]
    return np.stack([x * 8, y * 12, 255 - x * 8], -1).astype("uint8")


def one(path: Path, setting: str = "image") -> Given:
    (found,), problems = look(setting, str(path))
    assert problems == []
    return found


def saved(picture: Image.Image, path: Path, **options: object) -> Path:
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "gif", "jpg"])
def test_every_format_is_read(tmp_path, pixels, suffix):
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    path = saved(Image.fromarray(pixels), tmp_path / f"x.{suffix}", **options)
    found = one(path)
    assert (found.size, found.changed) == (Size(20, 30), ())
    tolerance = {"gif": 32, "jpg": 4}.get(suffix, 0)
    assert np.abs(np.asarray(ready(found, None)).astype(int) - pixels).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_phones_picture_is_turned_upright(tmp_path, pixels, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    turns = {  # how a camera that is held so stores what is upright, by the EXIF standard
        1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1), 6: lambda p: np.rot90(p, 1), 7: lambda p: p.swapaxes(0, 1)[::-1, ::-1],
        8: lambda p: np.rot90(p, -1),
    }  # fmt: skip
    stored = np.ascontiguousarray(turns[orientation](pixels))
    found = one(saved(Image.fromarray(stored), tmp_path / "x.png", exif=exif))
    assert found.size == Size(20, 30)
    assert found.changed == (() if orientation == 1 else ("turned as its EXIF tag says",))
    assert np.array_equal(np.asarray(ready(found, None)), pixels)


def test_sixteen_bits_become_eight(tmp_path):
    deep = np.linspace(0, 65535, 600).astype("uint16").reshape(20, 30)
    found = one(saved(Image.fromarray(deep), tmp_path / "x.png"))
    assert found.changed == ("16 bits reduced to 8",)
    shown = np.asarray(ready(found, None))
    assert shown.shape == (20, 30, 3)
    assert np.abs(shown[..., 0].astype(int) - deep / 257).max() <= 0.5
    assert (shown.min(), shown.max()) == (0, 255)


def test_cmyk_becomes_rgb(tmp_path):
    found = one(saved(Image.new("CMYK", (30, 20), (0, 255, 255, 0)), tmp_path / "x.jpg"))
    assert found.changed == ("CMYK turned into RGB",)
    assert np.abs(np.asarray(ready(found, None)).astype(int) - (255, 0, 0)).max() <= 3


def test_what_is_transparent_is_laid_over_white(tmp_path, pixels):
    alpha = np.where(np.arange(30) < 15, 0, 255).astype("uint8")[None].repeat(20, 0)
    found = one(saved(Image.fromarray(np.dstack([pixels, alpha])), tmp_path / "x.png"))
    assert found.changed == ("transparent parts laid over white",)
    shown = np.asarray(ready(found, None))
    assert (shown[:, :15] == 255).all()
    assert np.array_equal(shown[:, 15:], pixels[:, 15:])
    opaque = one(saved(Image.fromarray(pixels).convert("RGBA"), tmp_path / "y.png"))
    assert opaque.changed == ()


def test_a_palette_with_a_transparent_colour(tmp_path):
    picture = Image.new("P", (30, 20), 1)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    found = one(saved(picture, tmp_path / "x.png", transparency=1))
    assert found.changed == ("transparent parts laid over white",)
    assert (np.asarray(ready(found, None)) == 255).all()


def test_colours_are_those_of_the_profile(tmp_path, pixels):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    plain = one(saved(Image.fromarray(pixels), tmp_path / "x.png", icc_profile=lab.tobytes()))
    assert plain.changed == ()  # sRGB is what is wanted
    broken = one(saved(Image.fromarray(pixels), tmp_path / "y.png", icc_profile=b"no profile"))
    assert broken.changed == ()
    assert np.array_equal(np.asarray(ready(broken, None)), pixels)


def test_an_animation_gives_its_first_frame(tmp_path, pixels):
    first, second = Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())
    found = one(saved(first, tmp_path / "x.png", save_all=True, append_images=[second]))
    assert found.changed == ("the first of 2 frames",)
    assert np.array_equal(np.asarray(ready(found, None)), pixels)


def test_a_mask_has_one_channel(tmp_path):
    path = saved(Image.new("RGB", (30, 20), (255, 255, 255)), tmp_path / "x.png")
    assert ready(one(path, "mask_image"), None).mode == "L"


def bomb(path: Path) -> Path:
    """A PNG of a few bytes that says that it has 20,000 x 20,000 pixels."""
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    framed = (struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))
    return path


def test_bad_files_are_told(tmp_path, pixels):
    good = saved(Image.fromarray(pixels), tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(good[: len(good) // 2])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "evil.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run\n")
    os.mkfifo(tmp_path / "pipe.png")
    saved(Image.fromarray(np.ones((4, 4), "float32")), tmp_path / "float.tiff")
    for name, said in {
        "none.png": "can't be read (No such file or directory)",
        "pipe.png": "is a pipe, not a regular file",
        "cut.png": "is damaged or cut short",
        "text.png": "is not a picture that can be read",
        "evil.eps": "is not a picture that can be read",
        "float.tiff": "has floating-point pixels",
        bomb(tmp_path / "bomb.png").name: f"at most {MAX_PIXELS / 1e6:.0f} million are taken",
        "": "is a folder",
    }.items():
        found, (problem,) = look("image", str(tmp_path / name))
        assert found == []
        assert said in problem.rule, name
        assert problem.instead


@pytest.mark.slow
@settings(max_examples=60)
@drawn(
    data=st.binary(max_size=200),
    start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\0"]),
)
def test_no_bytes_do_more_than_be_told(tmp_path_factory, data, start):
    path = tmp_path_factory.mktemp("bytes") / "x.png"
    path.write_bytes(start + data)
    found, problems = look("image", str(path))
    assert len(found) + len(problems) == 1


def test_a_file_that_changes_is_not_taken(tmp_path, pixels):
    path = saved(Image.fromarray(pixels), tmp_path / "x.png")
    found = one(path)
    saved(Image.fromarray(pixels[::-1].copy()), path)
    with pytest.raises(ValueError, match="was changed since it was checked"):
        ready(found, None)
    assert one(path).sha256 != found.sha256


def test_several_are_listed(tmp_path, pixels, monkeypatch):
    names = [saved(Image.fromarray(pixels), tmp_path / f"{number}.png").name for number in range(2)]
    assert listed(f"[{tmp_path / names[0]}, '{tmp_path / names[1]}']") == [str(tmp_path / name) for name in names]
    found, problems = look("image", f"[{tmp_path / names[0]},{tmp_path / 'none.png'}]")
    assert (len(found), len(problems)) == (1, 1)
    Image.fromarray(pixels).save(tmp_path / "[a,b]", format="PNG")
    monkeypatch.chdir(tmp_path)
    assert listed("[a,b]") == ["[a,b]"]  # a file of this name


@settings(max_examples=200)
@drawn(*[st.integers(1, 300)] * 4, st.integers(1, 32))
def test_a_picture_covers_what_was_asked_for(height, width, wanted_height, wanted_width, multiple):
    requested = Size(wanted_height, wanted_width)
    rendered = Size(-(-wanted_height // multiple) * multiple, -(-wanted_width // multiple) * multiple)
    fit = covering(Size(height, width), requested, rendered)
    assert fit.scaled.height >= requested.height
    assert fit.scaled.width >= requested.width
    assert fit.scaled.height == requested.height or fit.scaled.width == requested.width
    assert (fit.cropped, fit.extended) == (requested, rendered)


def test_a_picture_of_the_right_size_stays_as_it_is(tmp_path, pixels):
    """What is rendered beyond it repeats its edges, and is cropped off again: the middle is the picture, exactly."""
    found = one(saved(Image.fromarray(pixels), tmp_path / "x.png"))
    fit = covering(found.size, Size(20, 30), Size(32, 32))
    assert fit.told == ("extended to 32 x 32 at its edges",)
    shown = np.asarray(ready(found, fit))
    assert shown.shape == (32, 32, 3)
    assert np.array_equal(shown[6:26, 1:31], pixels)
    assert np.array_equal(shown[0, 1:31], pixels[0])
