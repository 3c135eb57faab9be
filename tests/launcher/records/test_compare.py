"""How close two pictures are, against scikit-image."""

import numpy as np
import pytest
from PIL import Image
from shared import a_recipe

from launcher.records.compare import Difference, difference, frames, ssim
from launcher.records.film import Film
from launcher.records.formats import FORMATS
from launcher.records.picture import save


def noise(seed: int, height: int = 24, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(24, 40), (7, 7), (64, 64)])
def test_psnr_and_ssim_are_scikit_images(size):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    one = noise(0, *size)
    for spread in (1, 8, 200):
        step = np.random.default_rng(1).integers(-spread, spread + 1, one.shape)
        other = np.clip(one.astype(int) + step, 0, 255).astype(np.uint8)
        found = frames(one, other)
        assert found.psnr == pytest.approx(peak_signal_noise_ratio(one, other), rel=1e-9)
        wanted = structural_similarity(one.astype(float), other.astype(float), channel_axis=-1, data_range=255)
        assert found.ssim == pytest.approx(wanted, abs=1e-9)
        assert found.largest == np.abs(one.astype(int) - other).max()


def test_a_picture_smaller_than_a_window_is_compared():
    assert ssim(noise(0, 1, 1).astype(float), noise(1, 1, 1).astype(float)) < 1
    assert frames(noise(0, 2, 3), noise(0, 2, 3)).same == "pixels"


def saved(path, pixels, **changes):
    save([Image.fromarray(frame) for frame in pixels], path, a_recipe(**changes), FORMATS["png"], Film(16))
    return path


def test_files_are_compared_by_bytes_then_by_pixels(tmp_path):
    one = saved(tmp_path / "1.png", [noise(0)])
    assert str(difference(one, saved(tmp_path / "2.png", [noise(0)]))) == "same bytes"
    again = difference(one, saved(tmp_path / "3.png", [noise(0)], versions={"launcher": "1"}))
    assert str(again) == "same pixels"
    found = difference(one, saved(tmp_path / "4.png", [noise(1)]))
    assert found.same == ""
    assert "PSNR" in str(found)
    assert "SSIM" in str(found)


def test_one_pixel_is_told(tmp_path):
    pixels = noise(0)
    other = pixels.copy()
    other[3, 4, 1] ^= 4
    found = difference(saved(tmp_path / "1.png", [pixels]), saved(tmp_path / "2.png", [other]))
    assert (found.largest, found.share) == (4, 1 / (24 * 40))


def test_a_video_is_as_close_as_its_worst_frame(tmp_path):
    film = [noise(number) for number in range(3)]
    other = [film[0], noise(9), film[2]]
    found = difference(saved(tmp_path / "1.png", film), saved(tmp_path / "2.png", other), 16)
    assert found.psnr == frames(film[1], other[1]).psnr
    again = difference(saved(tmp_path / "3.png", film, versions={"x": "1"}), tmp_path / "1.png", 16)
    assert again.same == "pixels"


def test_what_can_not_be_compared_is_told(tmp_path):
    one = saved(tmp_path / "1.png", [noise(0)])
    assert "1.png is 24 x 40 pixels and what was made is 8 x 8" in str(
        difference(one, saved(tmp_path / "2.png", [noise(0, 8, 8)]))
    )
    assert "24 x 40 x 2 frames" in str(difference(one, saved(tmp_path / "3.png", [noise(0), noise(1)])))
    (tmp_path / "no.png").write_text("no picture")
    assert "no.png can't be compared" in str(difference(tmp_path / "no.png", one))


def test_a_huge_picture_is_not_decoded(tmp_path):
    """Its header says 60000 x 60000; a stranger's file costs no memory."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert "can't be compared" in str(difference(tmp_path / "bomb.png", saved(tmp_path / "1.png", [noise(0)])))


def test_a_share_of_all_pixels_is_told_in_plain_digits():
    assert str(Difference("", 9, 1.0, 30.0, 0.9)).endswith("in 100% of the pixels")
