"""A scheduler that takes the place of a model's own follows the same path, with its settings, and leaves no trace."""

import diffusers
import numpy as np
import pytest
import torch

from launcher.schedulers import EULER, Wish
from launcher.worker.schedulers import scheduler

SPREAD = 0.25  # of the data: numbers drawn from a normal distribution, whose flow is known exactly
FLUX = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15, "shift": 3.0}


def own(**more: object) -> diffusers.FlowMatchEulerDiscreteScheduler:
    return diffusers.FlowMatchEulerDiscreteScheduler(**{"shift": 3.0} | more)


def followed(made, steps: int, **given: object) -> torch.Tensor:
    """Where a perfect model's flow leads from noise, in parts of it: exactly to SPREAD."""
    made.set_timesteps(steps, device="cpu", **given)
    noise = x = torch.linspace(-2, 2, 8)[None]
    for time, sigma in zip(made.timesteps, made.sigmas, strict=False):
        s = float(sigma)
        variance = (1 - s) ** 2 * SPREAD**2 + s**2
        velocity = x * (s - (1 - s) * SPREAD**2) / variance  # E[noise - data | x]
        x = made.step(velocity, time, x, return_dict=False)[0]
    return (x / noise)[0]


@pytest.mark.parametrize("name", ["auto", "euler", "unipc", "dpmpp_2m", "deis"])
@pytest.mark.parametrize("shift", [None, 1.0, 7.0])
def test_each_follows_the_flow(name, shift):
    ratio = followed(scheduler(own(), Wish(name, shift)), 60)
    torch.testing.assert_close(ratio, torch.full((8,), SPREAD), atol=0.06, rtol=0)


@pytest.mark.parametrize("name", ["unipc", "dpmpp_2m"])
def test_a_better_solver_needs_fewer_steps(name):
    error = [abs(float(followed(scheduler(own(), Wish(each, 1.0)), 24)[0]) - SPREAD) for each in ("euler", name)]
    assert error[1] < 0.5 * error[0]


@pytest.mark.parametrize("name", ["auto", "euler", "unipc", "dpmpp_2m", "deis"])
def test_a_shift_acts_in_place_of_one_that_depends_on_the_size(name):
    def middle(shift: float | None, mu: float) -> float:
        """The sigma in the middle before it was shifted."""
        made = scheduler(own(**FLUX), Wish(name, shift=shift))
        made.set_timesteps(9, device="cpu", **({} if name in ("dpmpp_2m", "deis") and shift else {"mu": mu}))
        sigma = float(made.sigmas[4])
        return sigma if shift is None else sigma / (shift - (shift - 1) * sigma)

    assert middle(5.0, 0.5) == middle(5.0, 1.15) == pytest.approx(middle(1.0, 0.5), abs=0.01)
    assert middle(None, 0.5) < middle(None, 1.15)


def test_spacings_and_options_reach_the_class():
    made = scheduler(own(), Wish("euler", sigmas="karras"))
    assert (made.config.use_karras_sigmas, made.config.use_beta_sigmas) == (True, False)
    assert scheduler(own(), Wish("unipc", options={"solver_order": 3})).config.solver_order == 3
    with pytest.raises(ValueError, match="scheduler=unipc: UniPCMultistepScheduler refuses its options"):
        scheduler(own(), Wish("unipc", options={"solver_type": "odd"}))


def test_a_wan_scheduler_becomes_a_flows_own():
    wan = diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)
    made = scheduler(wan, Wish("euler"))
    assert (type(made).__name__, made.config.shift) == (EULER, 5.0)


def test_noise_predictors_have_schedulers_of_their_own():
    sd = diffusers.PNDMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    for name, kind in (
        ("euler", "EulerDiscreteScheduler"),
        ("ddim", "DDIMScheduler"),
        ("unipc", "UniPCMultistepScheduler"),
    ):
        made = scheduler(sd, Wish(name, sigmas="karras" if name == "euler" else None))
        assert type(made).__name__ == kind
        assert np.isclose(made.config.beta_end, 0.012)
    with pytest.raises(ValueError, match="scheduler=dpm can't take the place of a PNDMScheduler"):
        scheduler(sd, Wish("dpm"))


def test_no_wish_is_the_pipelines_own():
    mine = own()
    assert scheduler(mine, Wish()) is mine


def test_sigmas_may_be_given_as_a_list():
    mine = scheduler(own(), Wish("unipc"))
    given = [1.0, 0.75, 0.5, 0.25]
    mine.set_timesteps(sigmas=given, device="cpu", mu=1.0)
    assert mine.sigmas[2] == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))
    assert given == [1.0, 0.75, 0.5, 0.25]
