"""Caches of steps and tiles of the VAE on real ranks: they skip what one rank skips, and decode what one decodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from shared import LAPTOP
from warm import Warm

from launcher.config.compose import Composer, to_config
from launcher.estimates.ways import resolve
from launcher.records.run_dir import RunDir
from launcher.rules import problems
from launcher.running.job import Made
from launcher.running.message import job_message
from launcher.worker.jobs import Worker

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
    group = Warm(tmp_path_factory.mktemp("ranks"))
    yield group
    group.close()


@pytest.fixture(scope="module")
def alone() -> Worker:
    return Worker(lambda _: None, 0, 1)


def asked(*words: str):
    request = resolve(to_config(Composer().compose([*WORDS, *words])), LAPTOP)
    assert problems(request) == []
    return request


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
