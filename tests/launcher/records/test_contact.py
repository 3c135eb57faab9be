import numpy as np
import pytest
from PIL import Image

from launcher.records.contact import GAP, LINE, SIDE, contact_sheet


def test_every_picture_is_on_the_sheet(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    for number, colour in enumerate(colours):
        Image.new("RGB", (512, 300 + 300 * number), colour).save(tmp_path / f"{number}.png")
    contact_sheet([(tmp_path / f"{number}.png", f"cp=ring seed={number}") for number in range(3)], tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as sheet:
        pixels = np.asarray(sheet)
    for colour in colours:
        assert (pixels == colour).all(-1).sum() > 10_000
    assert pixels.shape[1] == GAP + 2 * (SIDE + GAP)


def test_a_row_is_as_high_as_its_highest_picture(tmp_path):
    sizes = [(512, 64), (512, 128), (256, 256), (100, 40)]  # the first row's come out 32 and 64 high
    for number, size in enumerate(sizes):
        Image.new("RGB", size, "red").save(tmp_path / f"{number}.png")
    contact_sheet([(tmp_path / f"{number}.png", "seed") for number in range(4)], tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as sheet:
        assert sheet.height == GAP + (64 + LINE + GAP) + (256 + LINE + GAP)
        assert sheet.getpixel((GAP, GAP + 64 + LINE + GAP)) == (255, 0, 0)


def test_a_picture_that_is_gone_leaves_no_sheet(tmp_path):
    with pytest.raises(OSError, match="none"):
        contact_sheet([(tmp_path / "none.png", "x")], tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_is_a_bomb_or_broken_is_named(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes()[:40])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name in ("0.png", "1.png"):
        with pytest.raises(OSError, match=name):
            contact_sheet([(tmp_path / name, "x")], tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
