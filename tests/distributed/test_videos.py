"""Videos through the front doors: a sweep with its sheet, and the pool from Python."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import twins
from PIL import Image
from shared import command, hermetic

import launcher
from launcher.records.files import sha256
from launcher.records.picture import read_frames, read_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wan(tmp_path_factory) -> list[str]:
    """The settings that every run here has."""
    path = twins.build("wan_t2v_1_3b", tmp_path_factory.mktemp("wan") / "twin")
    return [*twins.FACTS["wan_t2v_1_3b"], f"model.path={path}", "runtime=cpu", "steps=1", "height=30", "width=44"]


def pixels(frames: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(frame) for frame in frames])


def light(frames: list[Image.Image]) -> np.ndarray:
    """BT.709's luma, which films keep at full resolution: these pictures' colours are noise."""
    return pixels(frames) @ np.array([0.2126, 0.7152, 0.0722])


def test_a_sweep_of_videos(wan, tmp_path):
    words = ["-m", *wan, "cp=none", "frames=6", "seed=2", "output=png,webp,auto,jpeg"]
    ended = subprocess.run(command(*words), cwd=tmp_path, env=hermetic(), capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    assert "output=jpeg: holds one picture, and wan_t2v_1_3b makes videos" in ended.stdout
    png, webp, film = (next(tmp_path.rglob(f"0000.{suffix}")) for suffix in ("png", "webp", "mp4"))
    assert np.array_equal(pixels(read_frames(png, 16)), pixels(read_frames(webp, 16)))
    assert pixels(read_frames(png, 16)).shape == (6, 30, 44, 3)
    encoded = read_frames(film, 16)
    assert pixels(encoded).shape == (6, 30, 44, 3)
    assert np.abs(light(encoded) - light(read_frames(png, 16))).mean() < 5
    with Image.open(next(tmp_path.rglob("contact.png"))) as sheet:
        first = np.asarray(sheet.convert("RGB"))[12 : 12 + 30, 12 : 12 + 44]
    assert np.array_equal(first, pixels(read_frames(png, 16))[0])
    for path in (png, webp, film):
        record = json.loads((path.parent / "run.json").read_text())
        assert record["frames"] == {"requested": 6, "rendered": 9, "fps": 16}
        assert record["files"][0]["sha256"] == sha256(path)
        assert (record["files"][0]["frames"], record["files"][0]["fps"]) == (6, 16)
        recipe = read_recipe(path)
        assert (recipe.config["frames"], recipe.rendered_frames) == (6, 9)


def test_videos_from_the_pool_and_the_same_again(wan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with launcher.Pool(*wan, "seed=2", "output=png") as pool:
        shared = pool.run("cp=ring_anything", "cp.ring_degree=2", frames=6, fps=5)
        assert [frame.size for frame in shared.frames[0]] == [(44, 30)] * 6
        assert np.array_equal(shared.images[0], shared.frames[0][0])
        again = pool.run("cp=ring_anything", "cp.ring_degree=2", frames=9, fps=5)
        assert np.array_equal(pixels(again.frames[0])[:6], pixels(shared.frames[0]))
        assert again.record["loads"] == 1
        still = pool.run("cp=unified_anything", "cp.ring_degree=2", "cp.ulysses_degree=1", frames=1)
        assert len(still.frames[0]) == 1
        film = pool.run("cp=ring_anything", "cp.ring_degree=2", "output=mp4", "output.crf=0", frames=6, fps=5)
        assert np.abs(light(film.frames[0]) - light(shared.frames[0])).mean() < 2
        assert film.record["config"]["output"].items() >= {"format": "mp4", "codec": "h264", "crf": 0}.items()
    assert [Path(made.files[0]).suffix for made in (shared, film)] == [".png", ".mp4"]
