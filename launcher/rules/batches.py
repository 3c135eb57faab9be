"""Pictures that one call of the pipeline draws: only where each is what it is alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from launcher.families.tasks import task_of, tasks
from launcher.problems import Problem
from launcher.request.request import Request
from launcher.rules.rule import rule
from launcher.wording import plural


def larger(request: Request) -> str:
    """What to type for two pictures a call; "" where that is refused."""
    config = dataclasses.replace(request.config, batch=2)
    return "" if list(batches(dataclasses.replace(request, config=config))) else "type batch=2"


@rule
def batches(request: Request) -> Iterator[Problem]:
    """A call draws what its pipeline was shown to draw, and as many pictures as there are."""
    config, model, images, prompts = request.config, request.config.model, request.images, len(request.prompts)
    batch, total = config.batch, images * prompts
    if batch < 2 or total < 1:
        return  # named by counts
    value, apart = f"batch={batch}", "leave it out: pictures are drawn one after the other"
    asked = task_of(config)
    possible = [asked] if asked is not None else list(tasks(model).values())
    if model.batch is None:
        what = f"nobody has shown that {model.name} draws each picture of a call as it draws it alone"
        yield Problem(value, what, apart)
    elif not any(task.batch or not task.needs for task in possible):
        needs = " and ".join(f"{name}=" for name in possible[0].needs)
        yield Problem(value, f"with {needs} a call of {model.name} draws one picture", apart)
    elif model.batch == "same" and prompts > 1 and images < batch:
        what = f"a call of {model.name} takes one prompt, which has {plural(images, 'picture')} here"
        yield Problem(value, what, f"type images={batch}, or {apart}")
    elif request.cache.on:
        what = f"cache={config.cache.name} decides for all pictures of a call, and each would not be what it is alone"
        yield Problem(value, what, f"{apart}, or leave out the cache")
    elif total < batch:
        yield Problem(value, f"the run makes {plural(total, 'picture')}", f"type batch={total}, or more images=")
