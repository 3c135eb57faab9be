"""Denoising steps seen from outside a pipeline."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from launcher.worker.steps import Steps


class Pipeline:
    """What pipelines do: chunks of steps, each with a bar of its own, and perhaps a copied scheduler for the sound."""

    def __init__(self, chunks: int = 1, sound: bool = False, iterates: bool = False) -> None:
        self.scheduler = FlowMatchEulerDiscreteScheduler()
        self.chunks, self.sound, self.iterates = chunks, sound, iterates
        self.prediction = torch.ones(1, 4)

    def progress_bar(self, iterable: Any = None, total: int | None = None) -> Any:
        raise AssertionError("the real bar is not drawn")

    def __call__(self) -> None:
        for _ in range(self.chunks):
            other = copy.deepcopy(self.scheduler)
            for scheduler in (self.scheduler, other):
                scheduler.set_timesteps(3)
            latents = torch.zeros(1, 4)
            if self.iterates:
                for t in self.progress_bar(self.scheduler.timesteps):
                    latents = self.step(other, t, latents)
                continue
            with self.progress_bar(total=3) as bar:
                for t in self.scheduler.timesteps:
                    latents = self.step(other, t, latents)
                    bar.update()

    def step(self, other: Any, t: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        if self.sound:
            other.step(model_output=2 * self.prediction, timestep=t, sample=latents)
        (found,) = self.scheduler.step(self.prediction, t, latents, return_dict=False)
        assert isinstance(found, torch.Tensor)
        return found


@pytest.mark.parametrize("iterates", [False, True])
@pytest.mark.parametrize(("chunks", "sound"), [(1, False), (2, False), (1, True)])
def test_steps_are_counted_and_their_latents_kept(chunks, sound, iterates):
    pipe, told = Pipeline(chunks, sound, iterates), []
    steps = Steps(told.append, lambda: told.append("drawn"))
    before = FlowMatchEulerDiscreteScheduler.step
    with steps.of(pipe):
        pipe()
    assert told == [1, 2, 3, "drawn", 4, 5, 6, "drawn"][: 4 * chunks]
    assert FlowMatchEulerDiscreteScheduler.step is before
    assert len(steps.latents) == len(steps.predictions) == 1 + sound
    # Flow matching goes from sigma 1 to 0, so what was predicted is taken away once.
    assert torch.allclose(steps.latents[-1], -pipe.prediction)
    if sound:
        assert torch.allclose(steps.predictions[0], 2 * pipe.prediction)


def test_a_digest_is_of_all_latents_and_tells_them_apart():
    found = set()
    for number, sound in ((1, False), (1, True), (2, False), (1, False)):
        pipe = Pipeline(sound=sound)
        pipe.prediction *= number
        steps = Steps(lambda _: None, lambda: None)
        with steps.of(pipe):
            pipe()
        assert steps.finite
        found |= set(steps.digests(1))
    assert len(found) == 3


def test_pictures_of_a_call_have_a_digest_each():
    steps = Steps(lambda _: None, lambda: None)
    alone = []
    for latents in (torch.zeros(2, 3), torch.tensor([[0.0] * 3, [1.0] * 3])):
        steps._stepped(None, latents, latents)
        alone.append(steps.digests(2))
    assert alone[0] == (alone[0][0],) * 2
    assert alone[1][0] == alone[0][0] != alone[1][1]
