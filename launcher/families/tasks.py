"""What a model can be asked to do, by the inputs that are given. Data of conf/model; nothing here knows a model."""

from __future__ import annotations

from collections.abc import Iterable

from launcher.config.model_schema import ModelConfig, TaskConfig
from launcher.config.paths import PICTURES
from launcher.config.schema import LaunchConfig

INPUTS = PICTURES
NAMES = {  # of tasks, as a table calls them
    "text": "text",
    "image": "image",
    "edit": "edit",
    "inpaint": "inpaint",
    "first_frame": "first frame",
    "first_last": "first and last frame",
    "video": "video",
    "video_inpaint": "inpaint a video",
}


def tasks(model: ModelConfig) -> dict[str, TaskConfig]:
    """Everything that a model does, by name."""
    text = {"text": TaskConfig()} if model.task.startswith("text-to-") else {}
    return text | {name: task for name, task in (model.tasks or {}).items() if task is not None}


def given(config: LaunchConfig) -> list[str]:
    """The inputs that were given."""
    return [name for name in INPUTS if getattr(config, name) is not None]


def fitting(model: ModelConfig, inputs: Iterable[str]) -> TaskConfig | None:
    """What is done with these inputs; None where the model does nothing with just these."""
    return next((task for task in tasks(model).values() if set(task.needs) == set(inputs)), None)


def task_of(config: LaunchConfig) -> TaskConfig | None:
    """What a configuration asks for."""
    return fitting(config.model, given(config))


def strength(config: LaunchConfig) -> float | None:
    """How much of the given picture is drawn anew, 1 for all; None where a task takes no such number."""
    task = task_of(config)
    if task is None or task.strength is None:
        return None
    return task.strength if config.strength is None else config.strength


def denoising_steps(config: LaunchConfig) -> int:
    """Steps that are really done: a picture that is kept in part starts in the middle, as diffusers counts it."""
    kept = strength(config)
    task = task_of(config)
    if kept is None or not 0 < kept <= 1 or (task is not None and task.condition is not None):
        return config.steps  # as far as a condition goes is said for each token: all steps are done
    if config.video is not None:  # whose pipelines cut off where those of pictures round up
        return min(int(config.steps * kept), config.steps)
    return config.steps - int(max(config.steps - min(config.steps * kept, config.steps), 0))
