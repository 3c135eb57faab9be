"""The main job with real ranks: every way of sharing a picture makes the same picture, at any size."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shared import hermetic, validated

from launcher.config.compose import Composer
from launcher.estimates.memory import estimate
from launcher.families.weights import BUNDLED
from launcher.records.files import sha256
from launcher.records.picture import read_recipe
from launcher.running.session import Session

pytestmark = pytest.mark.slow

SAME = ["seed=5", "steps=2", "runtime=cpu"]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def made(folder: Path) -> dict[tuple, tuple[Path, dict]]:
    """Each run's picture and record, by mode and size, and shares if they are unequal."""
    found = {}
    for run in (path.parent for path in folder.rglob("run.json")):
        record = json.loads((run / "run.json").read_text())
        assert record["status"] == "done"
        size = record["size"]["requested"]
        shares = record["config"]["cp"]["shares"]
        key = (record["config"]["cp"]["mode"], size["height"], size["width"], *([tuple(shares)] if shares else []))
        found[key] = run / record["files"][0]["file"], record
    return found


def assert_same(one: Path, other: Path) -> None:
    difference = np.abs(pixels(one) - pixels(other))
    assert difference.max() <= 1
    assert difference.mean() < 0.01


MODES = {  # two ranks draw the same by ulysses and ring_anything in test_sweeps.py
    3: "ulysses_anything,ring_anything",
    4: "unified,ring,ulysses_anything,unified_anything,attention2d",
}
UNEVEN = "height=16,328 width=16,1544"
SWEEPS = {  # by ranks: what they draw, loaded once
    1: [f"cp=none {UNEVEN}", "cp=none height=256,1000,16 width=256"],
    3: [f"cp={MODES[3]} cp.shares=null,[5,1,2] height=256 width=256", f"cp=ring_anything cp.ring_degree=3 {UNEVEN}"],
    4: [f"cp={MODES[4]} height=256 width=256"],
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """What a number of ranks makes, started when it is asked for."""

    def sweeps(world: int) -> dict[tuple, tuple[Path, dict]]:
        folder = tmp_path_factory.mktemp("runs")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            for name, value in hermetic().items():
                patch.setenv(name, value)
            with Session(Composer()) as session:
                for number, line in enumerate(SWEEPS[world]):
                    words = [*SAME, *line.split(), f"runtime.processes={world}", f"hydra.sweep.dir={number}"]
                    assert not session.sweep(words).failed
        validated(folder)
        return made(folder)

    return functools.cache(sweeps)


@pytest.fixture(scope="module")
def alone(drawn):
    """Pictures made by one process, every size that the other tests ask for."""
    return drawn(1)


@pytest.mark.parametrize("world", MODES)
def test_every_mode_makes_the_picture_of_one_process(drawn, alone, world):
    shared = {key: each for key, each in drawn(world).items() if key[1:3] == (256, 256)}
    uneven = [record for _, record in shared.values() if record["config"]["cp"]["shares"]]
    assert len(shared) - len(uneven) == len(MODES[world].split(","))
    assert [[rank["image"] for rank in record["tokens_per_rank"]] for record in uneven] == [[160, 32, 64]] * len(uneven)
    assert len(uneven) == (2 if world == 3 else 0)
    for picture, record in shared.values():
        assert_same(picture, alone["none", 256, 256][0])
        assert record["loads"] == 1
        assert len(record["peak_bytes"]) == record["config"]["runtime"]["processes"] == world


def test_uneven_and_tiny_sizes_over_three_ranks(drawn, alone):
    shared = {key: each for key, each in drawn(3).items() if key[1:3] != (256, 256)}
    assert len(shared) == 4
    for (_, height, width), (picture, record) in shared.items():
        assert_same(picture, alone["none", height, width][0])
        assert pixels(picture).shape == (height, width, 3)
        assert [rank["text"] for rank in record["tokens_per_rank"]] == [171, 171, 170]


def test_height_1000_is_1000_pixels_high_and_says_how(launch, alone):
    ended = launch(*SAME, "cp=ring_anything", "height=1000", "width=256", "images=2")
    (run,) = ended.runs
    record = json.loads((run / "run.json").read_text())
    first, second = (run / facts["file"] for facts in record["files"])
    assert pixels(first).shape == (1000, 256, 3)
    assert_same(first, alone["none", 1000, 256][0])
    assert not np.array_equal(pixels(first), pixels(second))
    assert "1000 x 256 pixels, rendered at 1008 x 256 and cropped" in ended.out
    assert record["size"]["rendered"] == {"height": 1008, "width": 256}
    assert record["size"]["crop"] == {"left": 0, "top": 4, "right": 256, "bottom": 1004}
    for facts in record["files"]:
        assert facts["sha256"] == sha256(run / facts["file"])
        recipe = read_recipe(run / facts["file"])
        assert recipe.config["seed"] == facts["seed"]
        assert recipe.config["prompt"] == record["prompts"][facts["prompt"]] == "red dots on a yellow background"
    assert [facts["seed"] for facts in record["files"]] == [5, 6]
    assert_told(record)
    assert {"config.yaml", "hydra.yaml", "overrides.yaml"} == {file.name for file in (run / ".hydra").iterdir()}
    assert {file.name for file in (run / "logs").iterdir()} == {"start.log", "rank0.log", "rank1.log"}
    assert not list(run.rglob("*.tmp"))


def assert_told(record: dict) -> None:
    """What a replay needs, of a run of two ranks, two pictures and two steps."""
    files = record["weights"]["files"]
    assert files["vae/diffusion_pytorch_model.safetensors"] == sha256(
        BUNDLED / "vae" / "diffusion_pytorch_model.safetensors"
    )
    assert len(files) == 4
    assert [len(steps) for steps in record["step_seconds"]] == [2, 2]
    times = record["times"]
    assert list(times) == ["start", "import", "load", "encode", "denoise", "decode", "save"]
    assert sum(map(sum, record["step_seconds"])) == pytest.approx(times["denoise"], rel=0.2, abs=0.2)
    assert (record["kernel"], record["generator"]) == ("cpu_flash", "cpu")
    assert record["scheduler"]["name"] == "FlowMatchEulerDiscreteScheduler"
    assert record["environment"].keys() >= {"system", "processor", "deterministic", "matmul_precision"}
    assert len(record["peak_host_bytes"]) == len(record["sent_bytes"]) == 2
    keys = 4 * 2 * (256 + 504) * 6 * 24  # layers, K and V, its own tokens, heads, channels
    assert record["sent_bytes"][0] == 2 * 2 * 4 * (keys + 504 * 12)  # pictures, steps, float32; and latents at the end


def test_memory_is_about_what_a_plan_says(ask, alone):
    """Of each of a warm rank's jobs, small ones after large ones."""
    held, planned = [], []
    for (_, height, width), (_, record) in alone.items():
        held.append(max(record["peak_bytes"]))
        planned.append(estimate(ask("cp=none", f"height={height}", f"width={width}")).total)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # no job's peak is its own here: proc(5)
        held, planned = [max(held)], [max(planned)]
    else:
        small = [max(alone["none", *size][1]["peak_bytes"]) for size in [(16, 16), (16, 256)]]  # its first, its last
        assert small[1] - small[0] < 30 << 20
    for most, plan in zip(held, planned, strict=True):
        assert 0.85 < most / plan < 1.15


def test_the_screen_is_the_launchers_own(launch):
    ended = launch(*SAME, "cp=ring_anything", "height=64", "width=64", "prompt=waves")
    assert ended.code == 0
    names = [line.split()[0] for line in ended.out.splitlines()]
    before = ["flux_tiny", "size", "tokens", "parallel", "devices", "memory", "loading", "seed", "run"]
    assert names == [*before, "picture", "seconds", "peak"]
    stages = [line.strip() for line in ended.err.splitlines()]
    told = ["starting", "importing", "loading", "encoding", "first step", "denoising", "decoding", "saving"]
    assert stages == [f"{each} ..." for each in told]
    assert "each rank holds 256 + 8" in ended.out
    records = "".join(path.read_text() for run in ended.runs for path in run.glob("run.json"))
    assert str(Path.home()) not in records
    assert str(ended.folder) not in records


def test_a_picture_is_replayed_from_its_recipe(launch):
    first = launch("steps=2", "height=40", "width=72", "cp=none", "prompt=green waves")  # the seed is drawn
    (run,) = first.runs
    config = read_recipe(run / "0000.png").config
    words = [f"{key}={config[key]}" for key in ("steps", "height", "width", "prompt", "seed")]
    again = launch(*words, f"cp={config['cp']['mode']}")
    assert sha256(again.runs[-1] / "0000.png") == sha256(run / "0000.png")
