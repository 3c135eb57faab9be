"""What models start from, on tiny twins: every cell of the table in conf/README.md, on one rank and on three."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import twins
from PIL import Image
from shared import LAPTOP
from warm import Warm

sys.path.insert(0, str(Path(__file__).parent))

import pipelines
from tasks_table import CELLS

from launcher.config.compose import Composer, to_config
from launcher.config.schema import LaunchConfig
from launcher.estimates.ways import resolve
from launcher.families.tasks import tasks
from launcher.records.files import sha256
from launcher.records.film import Film, encode
from launcher.records.picture import read_recipe
from launcher.request.request import Request
from launcher.rules import problems

pytestmark = pytest.mark.slow

ALL = [(name, task) for name, found in CELLS.items() for task in found]
SAMPLE = [
    ("flux_tiny", "inpaint"),
    ("flux_fill", "inpaint"),
    ("wan_flf2v_14b", "first_last"),
    ("ltx_video", "first_frame"),
    ("cogvideox_5b", "video"),
    ("ltx2", "first_last"),
    ("flux2_klein_4b", "inpaint"),
    ("wan_vace_1_3b", "video_inpaint"),
]
TRIED = ALL if os.environ.get("TASKS") == "all" else SAMPLE  # the whole takes a minute more


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """A picture with a gradient, another, a mask, and films that move as they do."""
    folder = tmp_path_factory.mktemp("pictures")
    y, x = np.mgrid[:64, :96]
    first = np.stack([x * 2, y * 4, (x // 9 % 2) * 255], -1).astype("uint8")
    mask = np.where(x > 45, 255, 0).astype("uint8")
    found = {"image": first, "last_image": first[::-1], "mask_image": mask}
    for name, pixels in found.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    for name, start in (("video", first), ("other_video", first[::-1])):
        frames = [Image.fromarray(np.roll(start, 3 * number, 1)) for number in range(7)]
        encode(frames, folder / f"{name}.mp4", {}, Film(8))
    films = {name: str(folder / f"{name}.mp4") for name in ("video", "other_video")}
    return films | {name: str(folder / f"{name}.png") for name in found}


@pytest.fixture(scope="module")
def families(tmp_path_factory) -> dict[str, LaunchConfig]:
    composer, folder = Composer(), tmp_path_factory.mktemp("families")
    always = ["output=png", "runtime=cpu", "runtime.timeout=30", "seed=1", "prompt=a blue cat", "steps=3"]
    found = {"flux_tiny": to_config(composer.compose(always))}
    for name in {name for name, _ in TRIED} - {"flux_tiny"}:
        if name in twins.FACTS:
            words = [*twins.FACTS[name], f"model.path={twins.build(name, folder / name)}"]
        else:
            words = pipelines.words(name, pipelines.build(name, folder / name))
        found[name] = to_config(composer.compose([*words, *always]))
    return found


def asked(config: LaunchConfig, task: str, files: dict[str, str], mode: str, world: int) -> Request:
    config = copy.deepcopy(config)
    config.height, config.width = 50, 40
    if config.model.frames_per_latent:
        config.frames = 5
    for setting in tasks(config.model)[task].needs:
        setattr(config, setting, files[setting])
    config.cp.mode = mode
    if mode != "none":
        config.cp.ulysses_degree = world
    return resolve(config, LAPTOP)


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Iterator[Warm]:
    group = Warm(tmp_path_factory.mktemp("single"))
    yield group
    group.close()


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Iterator[Warm]:
    group = Warm(tmp_path_factory.mktemp("three"))
    yield group
    group.close()


@pytest.mark.parametrize(("name", "task"), TRIED)
def test_three_ranks_make_what_one_makes(single, three, families, files, name, task):
    alone = asked(families[name], task, files, "none", 1)
    shared = asked(families[name], task, files, "ulysses_anything", 3)
    assert not problems(alone)
    assert not problems(shared)
    (expected,) = single.run(alone)
    (shown,) = three.run(shared)
    assert expected.shape == (alone.frames or 1, 50, 40, 3)
    assert expected.std() > 1
    assert np.abs(shown - expected).max() <= 1
    # What is given counts: another picture makes another one.
    other = dict(files, image=files["last_image"], last_image=files["image"], video=files["other_video"])
    (turned,) = single.run(asked(families[name], task, other, "none", 1))
    assert np.abs(turned - expected).max() > 4
    # What warm ranks have done before doesn't.
    (again,) = single.run(alone)
    assert np.array_equal(again, expected)


def test_what_is_given_is_recorded(single, families, files):
    request = asked(families["flux_tiny"], "inpaint", files, "none", 1)
    made = single.make(request)
    assert [given.setting for given in made.record.started_from] == ["image", "mask_image"]
    assert made.record.inputs == {name: sha256(Path(files[name])) for name in ("image", "mask_image")}
    assert made.record.started_from[0].changed == (
        "scaled to 50 x 75",
        "cropped to 50 x 40",
        "extended to 64 x 48 at its edges",
    )
    assert read_recipe(made.folder / "0000.png").inputs == made.record.inputs
    assert made.record.config["strength"] == 0.6
    assert made.record.config["image"] == ".../image.png"
    with Image.open(made.folder / "inputs" / "0.png") as kept:
        assert kept.size == (48, 64)
