"""A model's facts and a user's settings to the arguments of its pipeline's call."""

from __future__ import annotations

import dataclasses
from typing import Any

from launcher.config.schema import LaunchConfig
from launcher.families.tasks import strength, task_of


def negative_prompt(config: LaunchConfig) -> str | None:
    """The prompt of classifier-free guidance's other half, or None where that is off."""
    on = (config.guidance or 0) > 1 if config.model.guidance_cfg else config.model.true_cfg > 1
    return (config.negative_prompt or "") if on else None


def arguments(config: LaunchConfig, height: int, width: int, frames: int | None) -> dict[str, Any]:
    """What the pipeline is called with, beside the prompt and the noise, under its own names (`model.arguments`).

    Args:
        height, width, frames: as rendered; frames are None for a picture.
    """
    model, task = config.model, task_of(config)
    values = {
        "height": height,
        "width": width,
        "frames": frames if task is None or task.frames else None,  # the film that is given has as many
        "fps": config.fps,
        "steps": config.steps,
        "guidance": config.guidance,
        "true_cfg": model.true_cfg if model.true_cfg > 1 else None,
        "negative_prompt": negative_prompt(config),
        "text_tokens": model.text_tokens,
        "area": height * width,
    }
    names = dataclasses.asdict(model.arguments)
    kept = None if task is not None and task.condition is not None else strength(config)
    call: dict[str, Any] = {} if kept is None else {"strength": kept}
    if names["guidance_schedule"] is not None and config.guidance is not None:
        call[names["guidance_schedule"]] = None  # its default is the model's own schedule, and it takes one of the two
    return call | {names[key]: value for key, value in values.items() if names[key] is not None and value is not None}
