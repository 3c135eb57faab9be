"""What a model's own nature decides: its guidance, its text, its frames, its positions."""

from __future__ import annotations

import math
from collections.abc import Iterator

from attention_backends.plan import PlanError, parse
from launcher.families import sources
from launcher.families.plan_dims import dim_problems
from launcher.families.plan_names import name_problems
from launcher.families.tasks import tasks
from launcher.installed import version
from launcher.problems import Problem, nearest
from launcher.request.request import Request
from launcher.rules.rule import rule

MAX_FRAMES = 1 << 16
TASKS = ("text-to-image", "text-to-video", "image-to-video", "image-edit", "inpaint")
TEXT_MODELS = "model=flux, model=qwenimage or model=wan_t2v_14b"
MAX_FPS = 1000  # animated files count milliseconds


@rule
def cp_plan(request: Request) -> Iterator[Problem]:
    """A plan is in order, as far as that is known without its model."""
    model = request.config.model
    if model.cp_plan is None:
        return
    try:
        plan = parse(model.cp_plan)
    except PlanError as error:
        yield Problem("model.cp_plan", str(error), "see attention_backends/plan.py for the form, or leave it out")
        return
    yield from name_problems(model, plan)
    yield from dim_problems(model, plan)


@rule
def pipeline_class(request: Request) -> Iterator[Problem]:
    """The installed diffusers has the model's pipeline, as one that can be called and not only as blocks."""
    name = request.config.model.pipeline
    if name.endswith("ModularPipeline"):
        what = f"diffusers {version('diffusers')} has no pipeline for it, only modular blocks ({name})"
        instead = "share its transformer in your own script: attention_backends.enable(model, cp_plan=...)"
        yield Problem(f"model={request.config.model.name}", what, f"type model=flux2, or {instead}")
    if (known := sources.pipelines()) and name not in known:
        near = [f"type model.pipeline={each}" for each in nearest(name, known, 1)]
        what = f"diffusers {version('diffusers')} has no pipeline of this name"
        yield Problem(f"model.pipeline={name}", what, (near or ["leave it out"])[0])


@rule
def parts_of_pipeline(request: Request) -> Iterator[Problem]:
    """The pipeline has the parts that a model's file names, as far as its source says which it has."""
    model = request.config.model
    known = sources.parts(model.pipeline)
    for part in model.transformers if known else ():
        if part not in known:
            near = nearest(part, known, 1) or ["transformer"]
            what = f"{model.pipeline} has no part {part}; it has {', '.join(known)}"
            yield Problem(f"model.transformers=[{','.join(model.transformers)}]", what, f"write {near[0]}")


@rule
def sizes(request: Request) -> Iterator[Problem]:
    """A pipeline that knows some sizes only would make the nearest of them, without a word."""
    config, legal = request.config, request.config.model.sizes
    if legal is None or f"{config.height}x{config.width}" in legal:
        return
    sides = [side for size in legal if len(side := size.split("x")) == 2 and all(each.isdigit() for each in side)]
    near = sorted(sides, key=lambda side: abs(int(side[0]) - config.height) + abs(int(side[1]) - config.width))
    what = f"{config.model.name} makes {', '.join(legal)} only"
    instead = "type height={} width={}".format(*near[0]) if near else "leave them out"
    yield Problem(f"height={config.height} width={config.width}", what, instead)


def task(request: Request) -> Iterator[Problem]:
    """A run needs what its model makes pictures of; a plan does not."""
    model = request.config.model
    if model.task not in TASKS:
        yield Problem(f"model.task={model.task}", f"must be one of {', '.join(TASKS)}", "leave it out")
    elif not tasks(model):
        what = f"does {model.task}, and this version can't give it a picture to start from"
        yield Problem(f"model={model.name}", what, f"choose a model that draws from text: {TEXT_MODELS}")


@rule
def text_tokens(request: Request) -> Iterator[Problem]:
    """A pipeline's call refuses more text tokens than it knows."""
    text, most = request.config.model.text_tokens, request.config.model.max_text_tokens
    if most is not None and text > most:
        what = f"{request.config.model.pipeline} takes at most {most}"
        yield Problem(f"model.text_tokens={text}", what, f"type model.text_tokens={most} or leave it out")


@rule
def guidance(request: Request) -> Iterator[Problem]:
    """No option is ignored: guidance and negative prompts go to models that take them."""
    config, model = request.config, request.config.model
    takes_scale = model.guidance_embeds or model.guidance_cfg or model.guidance_steps is not None
    if config.guidance is not None:
        value = f"guidance={config.guidance:g}"
        if not math.isfinite(config.guidance) or config.guidance < 0:
            yield Problem(value, "must be a number from 0", f"type guidance={model.guidance or 3.5}")
        elif not takes_scale:
            what = f"{model.name} takes no distilled guidance scale"
            also = "type model.true_cfg=2 in its place, for classifier-free guidance, or "
            yield Problem(value, what, f"{also if model.arguments.true_cfg else ''}leave it out")
    elif model.guidance_steps is not None:
        if config.steps != model.guidance_steps:
            what = f"{model.name}'s own guidance schedule has {model.guidance_steps} steps"
            yield Problem(f"steps={config.steps}", what, f"type steps={model.guidance_steps}, or one scale: guidance=7")
    elif takes_scale:
        instead = f"type guidance={model.guidance or 3.5} or leave it out"
        yield Problem("guidance=null", f"{model.name} needs a guidance scale", instead)
    scale = "guidance" if model.guidance_cfg else "model.true_cfg"
    if not (math.isfinite(model.true_cfg) and model.true_cfg >= 1):
        yield Problem(f"model.true_cfg={model.true_cfg:g}", "must be 1 (off) or more", f"type {scale}=2")
    elif model.guidance_cfg and model.true_cfg > 1:
        what = f"{model.name} takes its classifier-free guidance scale as guidance"
        yield Problem(f"model.true_cfg={model.true_cfg:g}", what, f"type guidance={model.true_cfg:g} instead")
    elif model.true_cfg > 1 and model.arguments.true_cfg is None:
        what = f"{model.name} takes no scale of classifier-free guidance"
        yield Problem(f"model.true_cfg={model.true_cfg:g}", what, "leave it out")
    if config.negative_prompt is not None and request.negative_prompt is None:
        takes = model.guidance_cfg or model.arguments.true_cfg is not None
        instead = f"type {scale}=2, which doubles the work, or leave it out" if takes else "leave it out"
        yield Problem("negative_prompt", f"has no effect while {scale} is 1 (off)", instead)


@rule
def frames(request: Request) -> Iterator[Problem]:
    """Frames and frames a second are a video's, and a picture's format cannot hold one."""
    config, model = request.config, request.config.model
    given = {"frames": (config.frames, model.frames, MAX_FRAMES), "fps": (config.fps, model.fps, MAX_FPS)}
    for key, (number, default, most) in given.items():
        if model.frames_per_latent is None:
            if number is not None:
                what = f"{model.name} makes pictures, not videos"
                films = ", or type model=wan_t2v_1_3b or model=ltx_video" if request.device == "cuda" else ""
                yield Problem(f"{key}={number}", what, f"leave it out{films}")
        elif number is None or not 1 <= number <= most:
            what = f"{model.name} makes videos: type a number from 1 to {most}"
            yield Problem(f"{key}={'null' if number is None else number}", what, f"type {key}={default}")
        elif key == "frames" and model.arguments.frames is None and number != default:
            yield Problem(f"frames={number}", f"{model.name} makes {default} frames", f"type frames={default}")


@rule
def positions(request: Request) -> Iterator[Problem]:
    """Tokens each way, and latents in time, have positions that the transformer knows."""
    most, model = request.config.model.max_positions, request.config.model
    if most is None:
        return
    for key, side in (("height", request.rendered.height), ("width", request.rendered.width)):
        if side > most * request.multiple:
            what = f"{model.name} has {most} positions each way, of {request.multiple} pixels"
            yield Problem(f"{key}={getattr(request.requested, key)}", what, f"type {key}={most * request.multiple}")
    if request.latents > most:
        longest = (most - 1) * (model.frames_per_latent or 1) + 1
        what = f"{model.name} has {most} positions in time, of {model.frames_per_latent} frames"
        yield Problem(f"frames={request.frames}", what, f"type frames={longest}")
