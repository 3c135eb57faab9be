"""What the README shows: real ranks make one rank's picture, and a broken shard is seen."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launcher.flux_tiny import evaluate, model, shard_error
from launcher.flux_tiny.score import score
from launcher.flux_tiny.vocabulary import read

pytestmark = pytest.mark.slow

REQUEST = (shard_error.PROMPT, 288, 8, 0)  # size, steps, seed


@pytest.fixture(scope="module")
def pictures() -> dict[str, Image.Image]:
    """By kind, with one process in the place of three ranks."""
    pipe = evaluate.load(model.FOLDER)
    return {kind: shard_error.draw(pipe, kind, 3, *REQUEST) for kind in shard_error.KINDS}


def test_three_ranks_draw_one_ranks_picture(pictures: dict[str, Image.Image], tmp_path: Path) -> None:
    one, three = shard_error.draw_with_ranks([1, 3], *REQUEST, tmp_path)
    assert shard_error.difference(one, three) <= 1  # of 255: sums in another order
    assert shard_error.difference(one, pictures["exact"]) <= 1
    assert shard_error.difference(one, pictures["local"]) > 100


def test_a_broken_shard_is_seen(pictures: dict[str, Image.Image]) -> None:
    meaning = read(shard_error.PROMPT)
    agreement = {kind: score(np.asarray(picture), meaning).agreement for kind, picture in pictures.items()}
    assert agreement["exact"] > 0.95
    assert agreement["local"] < agreement["exact"] - 0.05
    assert agreement["restarted"] < agreement["exact"] - 0.05


def test_each_band_of_a_broken_picture_is_whole_at_a_phase_of_its_own(pictures: dict[str, Image.Image]) -> None:
    """The phase breaks at the seams: within a band the pattern is good, but bands do not agree where it lies."""
    meaning = read(shard_error.PROMPT)
    for kind, apart in (("exact", False), ("local", True)):
        bands = shard_error.shares(pictures[kind], meaning, 3)
        assert min(band.agreement for band in bands) > 0.9
        # Diagonal stripes have one phase: down + across. The farthest apart of any two bands, around the circle:
        turns = [sum(band.phase) % 1 for band in bands]
        spread = max(abs((a - b + 0.5) % 1 - 0.5) for a in turns for b in turns)
        assert (spread > 0.1) == apart, turns


def test_its_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for words, told in ((["--size", "400"], "multiple of 48: 384 or 432"), (["--ranks", "1"], "2 ranks or more")):
        monkeypatch.setattr("sys.argv", ["shard_error", *words])
        with pytest.raises(SystemExit):
            shard_error.main()
        assert told in capsys.readouterr().err
