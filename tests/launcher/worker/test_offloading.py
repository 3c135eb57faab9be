"""Weights that wait, on a CPU, where `poisoned` shows whether they do: NaN, or no numbers at all, stand for them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import AlignDevicesHook
from diffusers import AutoencoderKL
from diffusers.hooks.group_offloading import _GROUP_OFFLOADING, ModuleGroup
from PIL import Image
from poisoned import poisoned
from safetensors.torch import save_file
from shared import GPUS, a_job, a_recipe

from launcher.caches import Cache
from launcher.estimates import memory, weights
from launcher.families.weights import BUNDLED
from launcher.offloading import IN_PIECES
from launcher.wire.jobs import Job, LoraFile, Picture
from launcher.wire.protocol import Done
from launcher.worker.absent import is_absent
from launcher.worker.jobs import Worker
from launcher.worker.load import load_pipeline
from launcher.worker.offloading import Offload
from launcher.worker.sharded import blocks_of

pytestmark = pytest.mark.slow

STEPS = 4
CPU = torch.device("cpu")


def a_worker() -> Worker:
    return Worker(lambda _: None, 0, 1)


@pytest.fixture(scope="module")
def whole() -> Worker:
    return a_worker()


@pytest.fixture(scope="module", params=IN_PIECES)
def waiting(request) -> Iterator[tuple[str, Worker]]:
    """A worker whose weights wait, of `group` behind a stream's stand-in, as on a GPU."""
    with poisoned(streams=True):
        yield request.param, a_worker()


@pytest.fixture
def job(tmp_path) -> Job:
    return a_job(
        folder=str(tmp_path),
        load=dataclasses.replace(a_job().load, path=str(BUNDLED)),
        call={"height": 32, "width": 48, "num_inference_steps": STEPS, "max_sequence_length": 16},
        crop=(0, 0, 48, 32),
        pictures=(Picture(0, 5, "0000.png"),),
        recipe=a_recipe(config={"steps": STEPS}),
    )


def drawn(worker: Worker, job: Job, how: str = "none", **changes: Any) -> tuple[Done, np.ndarray]:
    """What a worker answers, and the picture that it has drawn."""
    done = worker.do(dataclasses.replace(job, load=dataclasses.replace(job.load, offload=how), **changes))
    return done, np.asarray(Image.open(Path(job.folder) / "0000.png")).astype(int)


def assert_waiting(worker: Worker) -> None:
    for name, part in worker.pipe.components.items():
        for path, weight in part.named_parameters() if isinstance(part, torch.nn.Module) else ():
            assert weight.is_meta or bool(weight.isnan().all()), f"{name}.{path} does not wait"


def test_pieces_draw_what_the_whole_draws_and_wait_again(whole, waiting, job):
    how, worker = waiting
    (expected, picture), (done, same) = drawn(whole, job), drawn(worker, job, how)
    assert abs(picture - same).max() <= 1
    assert done.held_bytes == expected.held_bytes
    assert (done.digests == expected.digests) == (how == "sequential")  # numbers of a file lie elsewhere in memory
    assert_waiting(worker)


CACHES = [
    Cache("first_block", threshold=0.6, steps=STEPS),
    Cache("taylorseer", interval=3, warmup=2, order=1, steps=STEPS),
]


@pytest.mark.parametrize("cache", CACHES, ids=lambda cache: cache.name)
def test_a_cache_skips_what_it_skips_without(whole, waiting, job, cache):
    how, worker = waiting
    (expected, picture), (done, same) = drawn(whole, job, cache=cache), drawn(worker, job, how, cache=cache)
    assert done.skipped_steps == expected.skipped_steps != ((),)
    assert abs(picture - same).max() <= 1


def test_a_lora_is_put_on_changed_and_taken_off(whole, waiting, job, tmp_path):
    how, worker = waiting
    noise = torch.Generator().manual_seed(0)
    down, up = (torch.randn(*shape, generator=noise) / 4 for shape in ((2, 144), (144, 2)))
    stem = "transformer.single_transformer_blocks.0.attn.to_q"
    save_file({f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}, tmp_path / "x.safetensors")
    plain = drawn(worker, job, how)[1]
    for scale in (1.0, 0.5):
        loras = (LoraFile(str(tmp_path / "x.safetensors"), 1, scale, "x"),)
        expected, same = drawn(whole, job, loras=loras)[1], drawn(worker, job, how, loras=loras)[1]
        assert abs(expected - same).max() <= 1
        assert abs(expected - plain).max() > 1
        assert_waiting(worker)
    assert np.array_equal(drawn(worker, job, how, loras=())[1], plain)
    drawn(whole, job)
    fused = dataclasses.replace(job.load, offload=how, fused=loras)
    other = a_worker()
    other.do(dataclasses.replace(job, load=fused))
    assert abs(np.asarray(Image.open(Path(job.folder) / "0000.png")).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("how", IN_PIECES)
def test_what_is_there_at_once_is_what_a_plan_counts(job, ask, monkeypatch, how):
    """By what diffusers' and accelerate's own hooks bring and take away."""
    there: dict[int, int] = {}
    most: Counter[type] = Counter()

    def watch(kind: type, name: str, size: Callable[[Any], int] | None) -> None:
        own = getattr(kind, name)

        def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = own(self, *args, **kwargs)
            key = args[0] if args else self
            if size is None:
                there.pop(id(key), None)
            else:
                there[id(key)] = size(key)
                most[kind] = max(most[kind], sum(there.values()))
            return result

        monkeypatch.setattr(kind, name, watched)

    def of_group(group: ModuleGroup) -> int:
        weights = [weight for module in group.modules for weight in module.parameters()]
        return sum(weight.nbytes for weight in {*weights, *group.parameters})  # it lists some twice

    watch(ModuleGroup, "onload_", of_group)
    watch(ModuleGroup, "offload_", None)
    watch(AlignDevicesHook, "pre_forward", lambda module: sum(each.nbytes for each in module.parameters(recurse=False)))
    watch(AlignDevicesHook, "post_forward", None)
    words = ["runtime=gpu", "cp=none", "runtime.dtype=float32", f"runtime.offload={how}"]
    planned = memory.of_ranks(ask(*words, machine=GPUS))[0]
    with poisoned(streams=True):
        drawn(a_worker(), job, how)
    layers = [planned.weights_encoding, planned.weights_decoding, planned.weights]
    blocks = layers.pop() if how == "group" else 0
    assert most[AlignDevicesHook] == pytest.approx(max(layers), rel=0.01)
    assert most[ModuleGroup] == pytest.approx(blocks, rel=0.01)
    assert max(layers) < sum(weights.held_parts(ask(*words, machine=GPUS), 0).values()) / 3


def test_a_forward_that_was_put_around_a_transformer_stays(job):
    """What shares guidance is put there; diffusers' way to learn the order of blocks would drop it."""
    with poisoned(streams=True):
        worker = a_worker()
        drawn(worker, job, "group")
        transformer, seen = worker.pipe.transformer, []
        own = transformer.forward
        transformer.forward = lambda *args, **kwargs: seen.append(1) or own(*args, **kwargs)
        drawn(worker, job, "group")
        assert len(seen) == STEPS
        hooks = [block._diffusers_hook.get_hook(_GROUP_OFFLOADING) for block in blocks_of(transformer)]
        assert [hook.next_group for hook in hooks] == [*(hook.group for hook in hooks[1:]), None]


@pytest.mark.parametrize("how", IN_PIECES)
def test_a_part_that_another_rank_has_comes_in_pieces_once_it_is_run_here(job, how):
    load = dataclasses.replace(job.load, offload=how)
    places = Offload(how, CPU, ["transformer"])
    with poisoned(streams=True), torch.no_grad():
        pipe = load_pipeline(load, str(BUNDLED), places)
        places.put(pipe)
        assert (pipe._execution_device, is_absent(pipe.vae)) == (CPU, True)
        latents = torch.ones(1, 3, 4, 6)
        expected = AutoencoderKL.from_pretrained(BUNDLED, subfolder="vae").decode(latents)[0]
        assert torch.equal(pipe.vae.decode(latents)[0], expected)
        assert not is_absent(pipe.vae)
        assert all(weight.is_meta for weight in pipe.vae.parameters())
