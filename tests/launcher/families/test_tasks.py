"""What a model does with what it is given, and how many steps that takes."""

import itertools

import pytest
import yaml
from diffusers import FlowMatchEulerDiscreteScheduler, FluxInpaintPipeline
from shared import ROOT

from launcher.config.model_schema import ModelConfig, TaskConfig
from launcher.config.schema import LaunchConfig
from launcher.families.tasks import NAMES, denoising_steps, fitting, given, strength, task_of, tasks

INPAINT = TaskConfig(["image", "mask_image"], strength=0.6)
DRAWS = ModelConfig(task="text-to-image", tasks={"inpaint": INPAINT, "image": None})
FILLS = ModelConfig(task="inpaint", tasks={"inpaint": TaskConfig(["image", "mask_image"])})


def test_text_alone_is_a_task_of_what_draws_from_text():
    assert list(tasks(DRAWS)) == ["text", "inpaint"]  # null takes one away that a file of conf/model would bring
    assert list(tasks(FILLS)) == ["inpaint"]


def test_every_task_has_a_name():
    files = [yaml.safe_load(path.read_text()) for path in (ROOT / "conf" / "model").glob("*.yaml")]
    used = {name for file in files for name in file.get("tasks") or {}}
    assert "inpaint" in used
    assert used <= set(NAMES)


@pytest.mark.parametrize("inputs", itertools.product([None, "a.png"], repeat=3))
def test_a_task_fits_just_what_it_needs(inputs):
    image, mask, last = inputs
    config = LaunchConfig(image=image, mask_image=mask, last_image=last, model=DRAWS)
    assert given(config) == [
        name for name in ("image", "mask_image", "last_image") if getattr(config, name) is not None
    ]
    expected = {(): TaskConfig(), ("image", "mask_image"): INPAINT}
    assert task_of(config) == expected.get(tuple(given(config)))


def test_the_order_of_inputs_does_not_count():
    assert fitting(DRAWS, ["mask_image", "image"]) is INPAINT
    assert fitting(FILLS, []) is None


def test_strength_is_the_models_unless_it_is_given():
    picture = {"image": "a.png", "mask_image": "b.png"}
    assert strength(LaunchConfig(**picture, model=DRAWS)) == 0.6
    assert strength(LaunchConfig(**picture, model=DRAWS, strength=0.0)) == 0.0
    assert strength(LaunchConfig(**picture, model=FILLS, strength=0.5)) is None  # it takes no such number
    assert strength(LaunchConfig(image="a.png", model=DRAWS, strength=0.5)) is None  # it does nothing with that


@pytest.mark.parametrize("part", [0.01, 0.1, 1 / 3, 0.5, 0.6, 0.7, 0.99, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 28, 50])
def test_steps_are_counted_as_diffusers_does(steps, part):
    class Pipe:
        scheduler = FlowMatchEulerDiscreteScheduler()

    Pipe.scheduler.set_timesteps(steps)
    left, _ = FluxInpaintPipeline.get_timesteps(Pipe(), steps, part, "cpu")
    config = LaunchConfig(image="a.png", mask_image="b.png", model=DRAWS, steps=steps, strength=part)
    assert denoising_steps(config) == len(left)


@pytest.mark.parametrize("part", [-1.0, 0.0, 1.5, float("nan")])
def test_a_strength_that_is_refused_elsewhere_is_not_counted_with(part):
    config = LaunchConfig(image="a.png", mask_image="b.png", model=DRAWS, steps=4, strength=part)
    assert denoising_steps(config) == 4
