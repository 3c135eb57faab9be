"""Pictures to start from: what the model does with them, and with how much of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from launcher.families.tasks import given, strength, task_of, tasks
from launcher.problems import Problem, choices
from launcher.request.pictures import listed
from launcher.request.request import Request
from launcher.rules.rule import rule
from launcher.wording import plural

WHO = {  # takes what
    "image": "model=flux_tiny, model=flux_kontext or model=wan_i2v_14b",
    "mask_image": "model=flux_tiny or model=flux_fill",
    "last_image": "model=wan_flf2v_14b or model=ltx2",
    "video": "model=wan_t2v_1_3b, model=cogvideox_5b or model=ltx2",
}
SMALL = {"image": "model=flux_tiny", "mask_image": "model=flux_tiny"}  # enough for a CPU
LEAST_SIDE, MOST_ASPECT = 64, 8  # of a picture that FLUX.2's pipelines look at: `check_image_input`


@rule
def inputs(request: Request) -> Iterator[Problem]:
    """No picture is ignored: each is one that the model does something with."""
    config, model = request.config, request.config.model
    have = given(config)
    if not have or task_of(config) is not None:
        return
    needed = [task.needs for task in tasks(model).values()]
    for name in have:
        value = f"{name}={getattr(config, name)}"
        able = [needs for needs in needed if name in needs]
        if not able:
            who = WHO[name] if request.device == "cuda" else SMALL.get(name, WHO[name])
            yield Problem(value, f"{model.name} takes no {name}", f"leave it out, or type {who}")
            return
    closest = min((needs for needs in needed if set(needs) & set(have)), key=lambda needs: len(set(needs) ^ set(have)))
    lacking = [name for name in closest if name not in have]
    value = " ".join(f"{name}={getattr(config, name)}" for name in have)
    what = "do not go together"
    if lacking:
        what = f"{model.name} needs {' and '.join(f'{name}=' for name in lacking)} too"
    yield Problem(value, what, "type " + " ".join(f"{name}=FILE" for name in closest))


def missing(request: Request) -> Iterator[Problem]:
    """A run needs what its model starts from; a plan does not."""
    config, model = request.config, request.config.model
    if given(config) or task_of(config) is not None:
        return
    needs = min((task.needs for task in tasks(model).values()), key=len, default=[])
    if needs:
        files = " ".join(f"{name}=FILE" for name in needs)
        yield Problem(f"model={model.name}", f"does {model.task}, and needs {choices(needs)}", f"type {files}")


@rule
def looked_at(request: Request) -> Iterator[Problem]:
    """So many pictures as the model looks at, each in a shape that leaves both sides something."""
    config, task = request.config, task_of(request.config)
    for name in given(config):
        text, most = getattr(config, name), task.most if task is not None and name == "image" else 1
        if task is not None and (count := len(listed(text))) > most:
            what = "film" if name == "video" else "picture"
            many = f"1 {what}" if most == 1 else f"up to {most} {what}s"
            yield Problem(f"{name}={text}", f"lists {count}, and {config.model.name} takes {many}", "leave some out")
    pictures = [one for one in request.inputs.pictures if one.setting == "image"]
    for picture, size in zip(pictures, request.references, strict=False):
        if min(size.height, size.width) < request.multiple:
            what = f"{picture.size} is too narrow: it would be looked at as {size}"
            yield Problem(f"image={picture.path.name}", what, "crop it to a side ratio below 30")


@rule
def beside(request: Request) -> Iterator[Problem]:
    """FLUX.2's pipelines look at pictures of some sides only, and one of them at no more than it draws."""
    config, task, rendered = request.config, task_of(request.config), request.rendered
    most = None if task is None else task.most_pixels
    if most is not None and rendered.height * rendered.width > most:
        needs = " and ".join(f"{name}=" for name in given(config))
        side = math.isqrt(most) // request.multiple * request.multiple
        value = f"height={config.height} width={config.width}"
        yield Problem(value, f"with {needs} {config.model.name} draws at most {most} pixels", f"type height={side}")
    if request.beside != "own" or config.model.reference_most is None:
        return
    for picture in (one for one in request.inputs.pictures if one.setting == "image"):
        short, long = sorted((picture.size.height, picture.size.width))
        if short < LEAST_SIDE or long > MOST_ASPECT * short:
            what = f"is {picture.size}; {config.model.name} takes sides from {LEAST_SIDE} pixels, up to {MOST_ASPECT}:1"
            yield Problem(f"image={picture.path.name}", what, "crop or scale it")


@rule
def films(request: Request) -> Iterator[Problem]:
    """A film that is started from has a frame for each that is drawn."""
    wanted = request.frames or 1
    for one in request.inputs.pictures:
        if one.frames is not None and one.frames < wanted:
            what = f"has {plural(one.frames, 'frame')}, and {wanted} are drawn"
            yield Problem(f"{one.setting}={one.path.name}", what, f"type frames={one.frames}")


@rule
def strengths(request: Request) -> Iterator[Problem]:
    """How much is drawn anew is above 0, and leaves a step to do."""
    config, amount = request.config, request.config.strength
    if amount is None:
        return
    value = f"strength={amount:g}"
    if strength(config) is None:
        if given(config):
            what = f"{config.model.name} does not draw over this picture, it starts from it whole"
            yield Problem(value, what, "leave it out")
        else:
            yield Problem(value, "is of a picture to start from, and none is given", "type image=FILE, or leave it out")
    elif not 0 < amount <= 1:
        yield Problem(value, "must be above 0, and at most 1 (all is drawn anew)", "type strength=0.6")
    elif request.denoising_steps < 1 <= config.steps:
        least = 1 / max(1, config.steps)
        what = f"leaves none of {config.steps} steps"
        yield Problem(value, what, f"type strength={least:.2g} or more, or steps={-(-1 // amount):.0f}")
