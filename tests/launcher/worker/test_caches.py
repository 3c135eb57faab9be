"""A cache of steps on the bundled model, in this process: what it skips is told, and nothing is left behind."""

from __future__ import annotations

import dataclasses

import pytest
from shared import a_job, a_recipe

from launcher.caches import Cache
from launcher.families.weights import BUNDLED
from launcher.wire.jobs import Job, Picture
from launcher.wire.messages import Message
from launcher.worker.caches import HOOKS
from launcher.worker.jobs import Worker

STEPS = 6
CACHES = [
    Cache("first_block", threshold=0.6, steps=STEPS),
    Cache("mag", threshold=0.5, warmup=1, ratios=(1.0, 1.0), steps=STEPS),
    Cache("taylorseer", interval=3, warmup=2, order=1, steps=STEPS),
    Cache("faster", interval=2, steps=STEPS),
    Cache("pab", interval=2, steps=STEPS),
]


@pytest.fixture(scope="module")
def worker() -> Worker:
    said: list[Message] = []
    return Worker(said.append, 0, 1)


@pytest.fixture
def job(tmp_path) -> Job:
    return a_job(
        folder=str(tmp_path),
        load=dataclasses.replace(a_job().load, path=str(BUNDLED)),
        call={"height": 64, "width": 48, "num_inference_steps": STEPS, "max_sequence_length": 16},
        crop=(0, 0, 48, 64),
        pictures=(Picture(0, 5, "0000.png"), Picture(0, 5, "0001.png")),
        recipe=a_recipe(config={"steps": STEPS}),
    )


@pytest.mark.slow
@pytest.mark.parametrize("cache", CACHES, ids=lambda cache: cache.name)
def test_what_was_skipped_is_told_and_nothing_is_left(worker, job, cache):
    plain = worker.do(job)
    done = worker.do(dataclasses.replace(job, cache=cache))
    first, second = done.skipped_steps
    assert first == second != ()  # a picture begins with nothing of an earlier one
    assert set(first) < set(range(1, STEPS + 1))
    assert 1 not in first
    assert done.digests[0] == done.digests[1] != plain.digests[0]
    again = worker.do(job)
    assert (again.digests, again.skipped_steps) == (plain.digests, ())
    modules = worker.pipe.transformer.modules()
    hooks = [getattr(getattr(module, "_diffusers_hook", None), "hooks", {}) for module in modules]
    assert not any(HOOKS & set(each) for each in hooks)


@pytest.mark.slow
def test_a_threshold_of_0_computes_all(worker, job):
    done = worker.do(dataclasses.replace(job, cache=Cache("first_block", threshold=0.0, steps=STEPS)))
    assert done.skipped_steps == ((), ())
    assert done.digests == worker.do(job).digests
