"""The main job with real ranks: every way of sharing a picture makes the same picture, at any size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shared import Ended

from launcher.estimates.memory import estimate
from launcher.families.weights import BUNDLED
from launcher.records.files import sha256
from launcher.records.picture import read_recipe

pytestmark = pytest.mark.slow

SAME = ["seed=5", "steps=2", "runtime=cpu"]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def made(ended: Ended) -> dict[tuple, tuple[Path, dict]]:
    """Each run's picture and record, by mode and size, and shares if they are unequal."""
    assert ended.code == 0, ended.err
    found = {}
    for run in ended.runs:
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


@pytest.fixture(scope="module")
def launch_module(tmp_path_factory):
    import subprocess

    from shared import command, hermetic, validated

    def run(*words: str) -> Ended:
        folder = tmp_path_factory.mktemp("runs")
        result = subprocess.run(
            command(*words), cwd=folder, env=hermetic(), capture_output=True, text=True, timeout=300, check=False
        )
        validated(folder)
        return Ended(result.returncode, result.stdout, result.stderr, folder / "outputs")

    return run


@pytest.fixture(scope="module")
def alone(launch_module):
    """Pictures made by one process, every size that the other tests ask for."""
    squares = made(launch_module("-m", *SAME, "cp=none", "height=16,256,1000", "width=256"))
    return squares | made(launch_module("-m", *SAME, "cp=none", "height=16,328", "width=16,1544"))


@pytest.mark.parametrize(
    ("modes", "degrees"),
    [
        ("ring,ulysses,ulysses_anything,ring_anything", ["runtime.processes=2"]),
        ("ulysses_anything,ring_anything", ["runtime.processes=3", "cp.shares=null,[5,1,2]"]),
        ("unified,ring,ulysses_anything,unified_anything,attention2d", ["runtime.processes=4"]),
    ],
)
def test_every_mode_makes_the_picture_of_one_process(launch_module, alone, modes, degrees):
    shared = made(launch_module("-m", *SAME, f"cp={modes}", *degrees, "height=256", "width=256"))
    uneven = [record for _, record in shared.values() if record["config"]["cp"]["shares"]]
    assert len(shared) - len(uneven) == len(modes.split(","))
    assert [[rank["image"] for rank in record["tokens_per_rank"]] for record in uneven] == [[160, 32, 64]] * len(uneven)
    assert len(uneven) in (0, 2)
    for picture, record in shared.values():
        assert_same(picture, alone["none", 256, 256][0])
        assert record["loads"] == 1
        assert len(record["peak_bytes"]) == record["config"]["runtime"]["processes"]


def test_uneven_and_tiny_sizes_over_three_ranks(launch_module, alone):
    words = ["cp=ring_anything", "cp.ring_degree=3", "height=16,328", "width=16,1544"]
    shared = made(launch_module("-m", *SAME, *words))
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
    for (_, height, width), (_, record) in alone.items():
        planned = estimate(ask("cp=none", f"height={height}", f"width={width}"))
        assert 0.85 < max(record["peak_bytes"]) / planned.total < 1.15


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
