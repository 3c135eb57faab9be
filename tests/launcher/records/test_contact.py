import numpy as np
import pytest
from PIL import Image

from launcher.records.contact import GAP, SIDE, contact_sheet


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


def test_a_picture_that_is_gone_leaves_no_sheet(tmp_path):
    with pytest.raises(OSError, match="none"):
        contact_sheet([(tmp_path / "none.png", "x")], tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []
