"""What one rank does with a job, in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from shared import a_job, a_recipe

from launcher.families.weights import BUNDLED
from launcher.records.files import sha256
from launcher.records.picture import read_recipe
from launcher.records.record import Check
from launcher.wire.jobs import Job, LoraFile, Picture
from launcher.wire.messages import Message
from launcher.wire.protocol import Done, Saved, Stage, Step
from launcher.worker import jobs
from launcher.worker.check import one_block
from launcher.worker.jobs import Worker
from launcher.worker.sharded import blocks_of


@pytest.fixture(scope="module")
def rank():
    """A worker that keeps its pipeline between tests, and what it said."""
    said: list[Message] = []
    return Worker(said.append, 0, 1), said


@pytest.fixture
def job(tmp_path) -> Job:
    load = dataclasses.replace(a_job().load, path=str(BUNDLED))
    call = {"height": 32, "width": 48, "num_inference_steps": 2, "max_sequence_length": 16}
    return a_job(
        folder=str(tmp_path),
        load=load,
        call=call,
        crop=(1, 2, 41, 30),
        prompts=("red dots", "blue waves"),
        pictures=(Picture(0, 5, "0000.png"), Picture(1, 6, "0001.png")),
        recipe=a_recipe(config={"steps": 2}),
    )


def test_a_job_is_done_and_told(rank, job, tmp_path):
    worker, said = rank
    said.clear()
    done = worker.do(job)
    assert isinstance(done, Done)
    assert done.loads == 1
    assert len(set(done.digests)) == 2
    assert set(done.seconds) == {"load", "encode", "denoise", "decode", "save"}
    assert min(done.seconds["encode"], done.seconds["denoise"]) > 0
    assert [len(steps) for steps in done.step_seconds] == [2, 2]
    assert sum(map(sum, done.step_seconds)) == pytest.approx(done.seconds["denoise"], rel=0.1, abs=0.01)
    assert (done.kernel, done.sent_bytes) == ("native", 0)
    assert done.peak_host_bytes == done.peak_bytes
    assert done.scheduler is not None
    assert done.scheduler.config["shift"] == 1.0
    assert done.environment["deterministic"] == "false"
    assert done.peak_bytes > 0
    stages = [message.name for message in said if isinstance(message, Stage)]
    assert stages == [
        *("loading", "loading"),  # its files, then the rest
        *("encoding", "first step", "decoding", "saving"),
        *("first step", "decoding", "saving"),
    ]
    assert [message for message in said if isinstance(message, Step)] == [
        Step(picture, step) for picture in (0, 1) for step in (1, 2)
    ]
    for number, message in enumerate(message for message in said if isinstance(message, Saved)):
        file = message.file
        assert (message.picture, file.file, file.prompt, file.seed) == (number, f"{number:04d}.png", number, 5 + number)
        assert (file.height, file.width, file.frames) == (28, 40, None)
        assert file.sha256 == sha256(tmp_path / file.file)
        assert file.bytes == (tmp_path / file.file).stat().st_size
        asked = {
            "steps": 2,
            "prompt": job.prompts[number],
            "prompt_file": None,
            "images": 1,
            "batch": 1,
            "seed": 5 + number,
        }
        assert read_recipe(tmp_path / file.file).config == asked | {"seed": 5 + number}
        with Image.open(tmp_path / file.file) as picture:
            assert picture.size == (40, 28)


def test_pictures_of_a_call_are_what_they_are_alone(rank, job, tmp_path):
    worker, said = rank
    each = worker.do(job)
    alone = [np.asarray(Image.open(tmp_path / one.file)).astype(int) for one in job.pictures]
    said.clear()
    done = worker.do(dataclasses.replace(job, calls=(2,)))
    assert len(set(done.digests)) == len(each.digests) == 2
    assert [len(steps) for steps in done.step_seconds] == [2]
    assert [message for message in said if isinstance(message, Step)] == [Step(0, 1), Step(0, 2)]
    assert [message.picture for message in said if isinstance(message, Saved)] == [0, 1]
    for one, before in zip(job.pictures, alone, strict=True):
        assert np.abs(np.asarray(Image.open(tmp_path / one.file)).astype(int) - before).max() <= 1
        recipe = read_recipe(tmp_path / one.file)
        assert (recipe.together, recipe.config["batch"], recipe.config["seed"]) == (2, 1, one.seed)


def test_an_argument_that_the_pipeline_does_not_take_is_refused(rank, job):
    worker, _ = rank
    with pytest.raises(TypeError, match="FluxPipeline takes no frame_rate"):
        worker.do(dataclasses.replace(job, call={**job.call, "frame_rate": 25}))


def test_numbers_that_are_not_finite_are_told_with_the_lora(rank, job, tmp_path):
    from safetensors.torch import save_file

    worker, _ = rank
    layer = "transformer.transformer_blocks.0.attn.to_k"
    down, up = torch.randn(2, 144), torch.randn(144, 2)
    save_file({f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}, tmp_path / "loud.safetensors")
    loud = LoraFile(str(tmp_path / "loud.safetensors"), 1, 1e38, "loud")
    with pytest.raises(FloatingPointError, match=r"not finite in float32 with the LoRA loud at scale 1e\+38"):
        worker.do(dataclasses.replace(job, loras=(loud,)))
    plain = worker.do(job)
    assert plain.digests == worker.do(job).digests  # it is taken off again
    assert not list(tmp_path.glob(".*.tmp"))


def test_peak_memory_is_the_jobs_own(rank, job):
    worker, _ = rank
    before = worker.do(job).peak_bytes
    held = torch.ones(64 << 20)  # 256 MiB
    more = worker.do(job).peak_bytes
    del held
    assert 200 << 20 < more - before < 400 << 20
    json.dumps(before)


@pytest.mark.parametrize("part", ["block", "step"])
def test_what_a_check_put_on_one_block_does_not_stay(rank, job, monkeypatch, part):
    """What shares a compiled model stays on for jobs to come, so after such a check it would be on one block alone."""
    worker, _ = rank

    def compare(pipe, transformers, draw, share, part, dtype, one):
        with one_block(transformers[0]) if part == "block" else contextlib.nullcontext(), share():
            return Check(part, dtype, 0.0, 0.0, 1e-4, True, None)

    monkeypatch.setattr(jobs, "compare", compare)
    if worker.pipe is None:
        worker.do(job)
    worker.drawing = worker.pipe
    worker._check(dataclasses.replace(job, sharing=dataclasses.replace(job.sharing, compile="regional")), part)
    blocks = blocks_of(worker.pipe.transformer)
    on = sum("forward" in vars(block) for block in blocks)
    worker.kept.end()
    assert on == (0 if part == "block" else len(blocks))
