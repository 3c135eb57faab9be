"""The self-check's comparison, by one rank whose sharing is what a test puts in its place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from diffusers import FlowMatchEulerDiscreteScheduler

from launcher.records.record import CHECK_BOUNDS, Check
from launcher.worker.check import compare, one_block


class Transformer(torch.nn.Module):
    """Each block adds one: so the prediction tells how many there are."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(torch.nn.Identity() for _ in range(3))
        self.off = 0.0

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.full_like(latents, len(self.blocks)) + self.off


class Pipeline:
    """Ten steps from the same latents; `taken` counts those that were begun."""

    def __init__(self) -> None:
        self.scheduler = FlowMatchEulerDiscreteScheduler()
        self.transformer = Transformer()
        self.taken = 0

    def progress_bar(self, total: int) -> Any:
        raise AssertionError("the real bar is not drawn")

    def __call__(self, pictures: int = 1) -> None:
        self.scheduler.set_timesteps(10)
        latents = torch.zeros(pictures, 4)
        with self.progress_bar(total=10) as bar:
            for t in self.scheduler.timesteps:
                self.taken += 1
                latents = self.scheduler.step(self.transformer(latents), t, latents, return_dict=False)[0]
                bar.update()


@pytest.fixture(autouse=True, scope="module")
def rank() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def checked(pipe: Pipeline, off: float = 0.0, part: str = "step", dtype: str = "float32") -> Check:
    """A check of ranks whose prediction is so far off."""

    @contextlib.contextmanager
    def share() -> Iterator[None]:
        pipe.transformer.off = off
        yield
        pipe.transformer.off = 0.0

    return compare(pipe, [pipe.transformer], pipe, share, part, dtype)


def test_the_same_is_close_and_takes_one_step_each():
    pipe = Pipeline()
    assert checked(pipe) == Check("step", "float32", 0.0, 0.0, CHECK_BOUNDS["float32"], close=True)
    assert pipe.taken == 2


@pytest.mark.parametrize("alone", [0.0, 1e-3])
def test_the_first_picture_of_a_batch_is_compared_with_the_same_alone(alone):
    pipe = Pipeline()

    def one() -> None:
        pipe.transformer.off = alone
        pipe()
        pipe.transformer.off = 0.0

    def two() -> None:
        pipe.transformer.off = 0.0
        pipe(2)

    found = compare(pipe, [pipe.transformer], two, contextlib.nullcontext, "step", "float32", one)
    assert found.relative == 0.0
    assert found.batch == pytest.approx(alone / 3, rel=1e-2)
    assert found.close == (alone == 0.0)


@pytest.mark.parametrize("dtype", CHECK_BOUNDS)
@pytest.mark.parametrize("times", [-1.1, 0.9, 1.1])
def test_what_is_off_is_told_in_parts_of_the_largest_number(dtype, times):
    off = 3 * CHECK_BOUNDS[dtype] * times  # three blocks predict 3
    found = checked(Pipeline(), off, dtype=dtype)
    assert found.relative == pytest.approx(abs(off) / 3, rel=1e-3)
    assert found.absolute == pytest.approx(abs(off) * 0.111, rel=1e-3)  # ten times of 1000 ... 1, 111 apart
    assert found.close == (abs(times) < 1)


def test_one_block_is_compared_where_that_is_asked():
    pipe = Pipeline()
    found = checked(pipe, 0.01, part="block")
    assert (found.part, found.relative) == ("block", pytest.approx(0.01, rel=1e-4))  # one block predicts 1
    assert len(pipe.transformer.blocks) == 3


def test_what_one_rank_cannot_hold_is_compared_by_one_block():
    pipe = Pipeline()
    whole: Callable[..., torch.Tensor] = pipe.transformer.forward

    def small(latents: torch.Tensor) -> torch.Tensor:
        if len(pipe.transformer.blocks) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(latents)

    pipe.transformer.forward = small
    assert checked(pipe).part == "block"
    assert len(pipe.transformer.blocks) == 3


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_are_an_error_that_says_whose(odd):
    with pytest.raises(FloatingPointError, match=r"latents of all ranks together are not finite .* in bfloat16"):
        checked(Pipeline(), odd, dtype="bfloat16")
    pipe = Pipeline()
    pipe.transformer.off = odd
    with pytest.raises(FloatingPointError, match="latents of one rank alone are not finite"):
        checked(pipe)


def test_a_pipeline_that_takes_no_step_has_nothing_to_compare():
    pipe = Pipeline()
    with pytest.raises(RuntimeError, match="Pipeline asked its scheduler for no step"):
        compare(pipe, [pipe.transformer], lambda: None, contextlib.nullcontext, "step", "float32")


def test_an_error_of_the_pipeline_leaves_all_as_it_was():
    pipe = Pipeline()
    step = FlowMatchEulerDiscreteScheduler.step

    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compare(pipe, [pipe.transformer], broken, contextlib.nullcontext, "block", "float32")
    assert len(pipe.transformer.blocks) == 3
    assert FlowMatchEulerDiscreteScheduler.step is step
    assert "progress_bar" not in vars(pipe)


def test_one_block_of_each_list_is_left_and_all_come_back():
    model = torch.nn.Module()
    model.blocks = torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(3))
    model.more = torch.nn.ModuleList([torch.nn.ModuleList(torch.nn.Linear(1, 1) for _ in range(2))])
    model.last = torch.nn.Linear(1, 1)
    before, names = model.blocks, [name for name, _ in model.named_modules()]
    with one_block(model):
        assert len(model.blocks) == 1
        assert model.blocks[0] is before[0]
    assert model.blocks is before
    assert [name for name, _ in model.named_modules()] == names
