"""Mixed meshes, data x cfg x ring x ulysses, on 1 to 6 real ranks: one rank's pictures, and the bytes of the plan.

FAMILY_SAMPLES=1 runs all of them; without it a few are run.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launcher.config.compose import Composer
from launcher.estimates.plan import plan
from launcher.request.mesh import Mesh
from launcher.running.session import Session

pytestmark = pytest.mark.slow

WORDS = [
    *("runtime=cpu", "runtime.threads=1", "model.true_cfg=2", "negative_prompt=blue waves"),
    *("height=72", "width=104", "steps=2", "seed=4", "images=3"),
]
# By how many ranks there are: started once, one after another.
MESHES = [
    Mesh(cfg=2),
    Mesh(data=2),
    Mesh(ring=2),
    Mesh(data=3),
    Mesh(ulysses=3),
    Mesh(ring=3),
    Mesh(data=2, cfg=2),
    Mesh(cfg=2, ring=2),
    Mesh(cfg=2, ulysses=2),
    Mesh(ring=2, ulysses=2),
    Mesh(data=2, ring=2),
    Mesh(data=3, cfg=2),
    Mesh(data=2, ulysses=3),
    Mesh(data=3, ring=2),
    Mesh(cfg=2, ring=3),
    Mesh(cfg=2, ulysses=3),
    Mesh(ring=2, ulysses=3),
    Mesh(ring=3, ulysses=2),
]
SAMPLE = MESHES if "FAMILY_SAMPLES" in os.environ else MESHES[:1]
CHANNELS = 12  # of a token that the transformer predicts


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Runs by words, on the CPU's cores or more."""
    with pytest.MonkeyPatch.context() as patch, Session(Composer()) as made:
        patch.chdir(tmp_path_factory.mktemp("meshes"))
        made.machine = made.machine.__class__(cores=12)
        yield made


@pytest.fixture(scope="module")
def alone(session) -> list[np.ndarray]:
    made = session.run([*WORDS, "cp=none", "hydra.run.dir=alone"])
    return [pixels(made.folder / file.file) for file in made.record.files]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def words_of(mesh: Mesh) -> list[str]:
    mode = "none"
    if mesh.sequence > 1:
        mode = "unified_anything" if min(mesh.ring, mesh.ulysses) > 1 else "ring_anything"
        mode = "ulysses_anything" if mesh.ring == 1 else mode
    degrees = [f"cp.ring_degree={mesh.ring}", f"cp.ulysses_degree={mesh.ulysses}"] if mode != "none" else []
    return [f"cp={mode}", *degrees, f"cp.cfg_degree={mesh.cfg}", f"data={mesh.data}"]


@pytest.mark.parametrize("mesh", SAMPLE, ids=str)
def test_a_mesh_makes_one_ranks_pictures_and_sends_what_its_plan_says(session, alone, mesh):
    line = [*WORDS, *words_of(mesh)]
    made = session.run([*line, f"hydra.run.dir={'-'.join(map(str, mesh.shape))}"])
    assert [file.seed for file in made.record.files] == [4, 5, 6]
    for file, one in zip(made.record.files, alone, strict=True):
        assert np.abs(pixels(made.folder / file.file) - one).max() <= 1
    assert len(made.record.peak_bytes) == mesh.ranks
    request = session.resolve(line)[1]
    (mine,) = [row for row in plan(request).modes if (row.mode, row.mesh.cfg) == (request.mode, mesh.cfg)]
    calls, group = request.passes // mesh.cfg, mesh.cfg * mesh.sequence
    held = [rank["image"] for rank in request.tokens_per_rank] * mesh.cfg
    gathered = [calls * (mesh.sequence - 1) * tokens * CHANNELS * 4 for tokens in held]  # the prediction, by all
    for number in range(mesh.data):
        steps = 2 * len(range(number, 3, mesh.data))
        sent = made.record.sent_bytes[number * group :][:group]
        attention = [bytes - steps * after for bytes, after in zip(sent, gathered, strict=True)]
        assert max(attention) == steps * mine.step_bytes
