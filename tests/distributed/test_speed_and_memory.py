"""Caches, tiles, sharded and quantised weights on real ranks: they skip, decode and hold what one rank would."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from diffusers import FluxTransformer2DModel
from PIL import Image
from shared import LAPTOP
from warm import Warm

from launcher.config.compose import Composer, to_config
from launcher.estimates.plan import plan
from launcher.estimates.ways import resolve
from launcher.families.weights import BUNDLED
from launcher.quantizing import PACKAGES
from launcher.records.run_dir import RunDir
from launcher.rules import problems
from launcher.running.job import Made
from launcher.running.message import job_message
from launcher.worker.jobs import Worker
from launcher.worker.sharded import blocks_of

pytestmark = pytest.mark.slow

WORDS = ["runtime=cpu", "height=104", "width=56", "steps=6", "seed=1", "model.text_tokens=24", "runtime.threads=1"]
CACHES = [
    ["cache=first_block", "cache.threshold=0.3"],
    ["cache=mag", "cache.threshold=0.3", "cache.warmup=1"],
    ["cache=taylorseer", "cache.interval=3", "cache.warmup=2"],
    ["cache=pab"],
]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> Iterator[Warm]:
    group = Warm(tmp_path_factory.mktemp("ranks"), "waiting")
    yield group
    group.close()


@pytest.fixture(scope="module")
def alone() -> Worker:
    return Worker(lambda _: None, 0, 1)


def asked(*words: str):
    request = resolve(to_config(Composer().compose([*WORDS, *words])), LAPTOP)
    assert problems(request) == []
    return request


def test_each_rank_holds_what_it_runs_and_draws_what_one_that_holds_all_draws(ranks, alone, tmp_path):
    """Guidance, several prompts in a call, and a self-check, in which each rank draws alone.

    The first of these tests: a VAE that a rank has run stays.
    """
    words = ["prompt_file=prompts.json", "batch=2", "model.true_cfg=2", "negative_prompt=blue", "check=true"]
    (tmp_path / "prompts.json").write_text('["red dots", "green waves"]')
    words[0] = f"prompt_file={tmp_path / 'prompts.json'}"
    expected = alone.do(job_message(asked("cp=none", *words[:-1]), RunDir(tmp_path)))
    request = asked("cp=ring_anything", "cp.ring_degree=2", *words)
    made: Made = ranks.make(request)
    first, second = made.record.held_bytes
    assert first == expected.held_bytes
    assert second == first | dict.fromkeys(("text_encoder", "text_encoder_2", "vae"), 0)
    parts = plan(request).held_bytes  # which counts buffers that files hold
    assert [parts[0][name] / size for name, size in first.items()] == pytest.approx([1] * 4, rel=0.01)
    assert parts[1] == {"transformer": parts[0]["transformer"]}
    assert made.record.check is not None
    assert made.record.check.close
    shared = ranks.make(
        asked("cp=ring_anything", "cp.ring_degree=2", "vae.tiling=true", "vae.tile=32", "vae.shared=true")
    )
    assert shared.record.held_bytes[1]["vae"] == first["vae"]


@pytest.mark.parametrize("words", CACHES, ids=lambda words: words[0])
def test_two_ranks_skip_what_one_skips(ranks, alone, words, tmp_path):
    single = asked("cp=none", *words)
    expected = alone.do(job_message(single, RunDir(tmp_path))).skipped_steps
    made: Made = ranks.make(asked("cp=ring_anything", "cp.ring_degree=2", *words))
    assert made.record.skipped_steps == expected != ((),)
    assert made.record.config["cache"]["name"] == words[0].removeprefix("cache=")
    assert made.record.status == "done"  # all ranks ended with the same latents


def test_shared_tiles_are_those_of_one_rank_to_the_bit(ranks):
    words = ["cp=ring_anything", "cp.ring_degree=2", "vae.tiling=true", "vae.tile=32"]
    alone, shared, whole = (ranks.run(asked(*each))[0] for each in (words, [*words, "vae.shared=true"], words[:2]))
    assert (alone == shared).all()
    assert (alone != whole).any(), "tiles change nothing"


SHARDED = [
    ["cp=ring_anything", "cp.ring_degree=2"],
    ["cp=ulysses_anything", "cp.ulysses_degree=2"],
    ["cp=unified_anything", "cp.ring_degree=2", "cp.ulysses_degree=1", "model.true_cfg=2", "negative_prompt=blue"],
]


@pytest.mark.parametrize("words", SHARDED, ids=lambda words: words[0])
def test_ranks_that_hold_a_part_of_the_weights_draw_the_same_to_the_bit(ranks, words):
    whole = ranks.run(asked(*words))[0]
    made: Made = ranks.make(asked(*words, "runtime.weights=sharded", "check=true"))
    (file,) = made.record.files
    assert (np.asarray(Image.open(made.folder / file.file)).astype(int) == whole[0]).all()
    assert made.record.check is not None
    assert made.record.check.close
    transformer = FluxTransformer2DModel.from_pretrained(BUNDLED / "transformer")
    all_of_it = sum(weight.nbytes for weight in transformer.parameters())
    block = max(sum(weight.nbytes for weight in each.parameters()) for each in blocks_of(transformer))
    for held in made.record.held_bytes:
        assert held["transformer"] <= all_of_it / 2 + 2 * block + all_of_it / 10
        assert held["transformer"] > all_of_it / 2


OFFLOADED = [
    ["runtime.offload=sequential", "cp=ulysses_anything", "cp.ulysses_degree=2", *CACHES[0], "check=true"],
    ["runtime.offload=group", "cp=ring_anything", "cp.ring_degree=2", *CACHES[2], "check=true"],
    ["runtime.offload=group", "cp=none", "cp.cfg_degree=2", "model.true_cfg=2", "negative_prompt=blue"],
]


@pytest.mark.parametrize("words", OFFLOADED, ids=lambda words: f"{words[0]}-{words[1]}")
def test_ranks_whose_weights_come_in_pieces_draw_the_same(ranks, words):
    """No rule is asked, which would say that a CPU has nowhere to move weights from."""
    tiles = ["vae.tiling=true", "vae.tile=32", "vae.shared=true"]  # so that rank 1 loads a VAE when it decodes
    same = [word for word in words[1:] if not word.startswith("check")]
    whole = ranks.make(asked(*same, *tiles))
    pieces = ranks.make(resolve(to_config(Composer().compose([*WORDS, *words, *tiles])), LAPTOP))
    shown = [np.asarray(Image.open(made.folder / made.record.files[0].file)).astype(int) for made in (whole, pieces)]
    assert abs(shown[0] - shown[1]).max() <= 1
    assert pieces.record.skipped_steps == whole.record.skipped_steps
    assert pieces.record.held_bytes == whole.record.held_bytes
    assert pieces.record.config["runtime"]["offload"] == words[0].removeprefix("runtime.offload=")
    assert pieces.record.check is None or pieces.record.check.close


QUANTIZED = [
    ["quantization=int8", "cp=ring_anything", "cp.ring_degree=2", "check=true"],
    ["quantization=fp8", "cp=ulysses_anything", "cp.ulysses_degree=2", *CACHES[0]],
    ["quantization=nf4", "cp=ring_anything", "cp.ring_degree=2", "check=true"],
    ["quantization=int8", "cp=none", "cp.cfg_degree=2", "model.true_cfg=2", "negative_prompt=blue"],
    ["quantization=nf4", "cp=ring_anything", "cp.ring_degree=2", "compile=regional"],
]


@pytest.mark.parametrize("words", QUANTIZED, ids=lambda words: f"{words[0]}-{words[1]}")
def test_ranks_draw_what_one_draws_with_the_same_quantised_weights(words, tmp_path):
    package = PACKAGES[words[0].removeprefix("quantization=")]
    pytest.importorskip(package, reason="its package is not installed: pip install '.[quantization,bitsandbytes]'")
    same = [word for word in words if not word.startswith(("cp", "check"))]
    group, alone, whole = Warm(tmp_path / "ranks"), Worker(lambda _: None, 0, 1), Worker(lambda _: None, 0, 1)
    try:
        made: Made = group.make(asked(*words))
    finally:
        group.close()
    for name in ("one", "full"):
        (tmp_path / name).mkdir()
    expected = alone.do(job_message(asked("cp=none", *same), RunDir(tmp_path / "one")))
    full = whole.do(job_message(asked("cp=none", *same[1:]), RunDir(tmp_path / "full")))
    shown = [
        np.asarray(Image.open(folder / made.record.files[0].file)).astype(int)
        for folder in (made.folder, tmp_path / "one", tmp_path / "full")
    ]
    assert abs(shown[0] - shown[1]).max() <= 1
    assert abs(shown[1] - shown[2]).max() > 1, "quantised weights change nothing"
    assert made.record.config["quantization"] == words[0].removeprefix("quantization=")
    planned = plan(asked(*words)).held_bytes[1]["transformer"]
    for held in made.record.held_bytes:
        assert held["transformer"] == expected.held_bytes["transformer"] == pytest.approx(planned, rel=0.1)
        assert held["transformer"] < full.held_bytes["transformer"] / 3
    assert expected.held_bytes["vae"] == full.held_bytes["vae"]  # transformers alone are quantised
    assert made.record.check is None or made.record.check.close
