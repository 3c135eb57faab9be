"""Every constraint, one small function each; `problems` tries all of them.

A rule gets the resolved request and yields a Problem for each way in which the request breaks it. Rules stand alone: a
rule must not assume that another one passed (a height may be -5 here). Those on how ranks share the sequence are in
sharing_rules.py, those of a model's own nature in model_rules.py.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from attention_backends.catalog import KERNELS, MODES, SCHEDULES, TRANSPORTS
from launcher.families.hub import connection_flaw
from launcher.families.weights import HERE, folder, revision_problems, weights_problems
from launcher.machines import FIGURES, HARDWARE, MAX_DEVICES, MAX_FIGURE
from launcher.problems import Problem, choices, nearest
from launcher.request.request import Request
from launcher.rules.model import frames, lora, positions
from launcher.rules.sharing import MAX_FACT, SHARING, Rule

DTYPES = ("auto", "float32", "bfloat16", "float16")
FORMATS = ("png", "webp", "jpeg")
MODULES = {"flash-attn": "flash_attn", "flash-attn-3": "flash_attn_interface"}  # where the names differ
MAX_SIDE = 65536  # pixels: beyond it file formats and decoders give up (JPEG ends at 65535)
MAX_STEPS = 1000
MAX_SEED = 2**63 - 1


def words(request: Request) -> Iterator[Problem]:
    """Settings that are one of a few words."""
    runtime, output = request.config.runtime, request.config.output
    given = {
        "cp.mode": (request.config.cp.mode, ("auto", *MODES), "cp="),
        "cp.schedule": (request.config.cp.schedule, SCHEDULES, "cp.schedule="),
        "cp.transport": (request.config.cp.transport, TRANSPORTS, "cp.transport="),
        "attention.kernel": (request.config.attention.kernel, tuple(KERNELS), "attention.kernel="),
        "runtime.device": (runtime.device, ("auto", "cpu", "cuda"), "runtime.device="),
        "runtime.dtype": (runtime.dtype, DTYPES, "runtime.dtype="),
        "runtime.offload": (runtime.offload, ("none", "model"), "runtime.offload="),
        "output.format": (output.format, FORMATS, "output="),
        "model.text": (request.config.model.text, ("padded", "prompt", "whole"), "model.text="),
    }
    for key, (word, legal, key_to_type) in given.items():
        if word not in legal:
            best = (nearest(word, legal, 1) or [legal[0]])[0]
            yield Problem(f"{key}={word}", f"must be {choices(legal)}", f"type {key_to_type}{best}")


def counts(request: Request) -> Iterator[Problem]:
    """Numbers that count something, or seconds: at least 1 of it."""
    config = request.config
    given: dict[str, float | None] = {
        "height": config.height,
        "width": config.width,
        "steps": config.steps,
        "images": config.images,
        "model.text_tokens": config.model.text_tokens,
        "cp.ring_degree": config.cp.ring_degree,
        "cp.ulysses_degree": config.cp.ulysses_degree,
        "runtime.processes": config.runtime.processes,
        "runtime.threads": config.runtime.threads,
        "runtime.timeout": config.runtime.timeout,
        "runtime.stall_timeout": config.runtime.stall_timeout,
        "runtime.start_timeout": config.runtime.start_timeout,
    }
    for key, number in given.items():
        if number is not None and not (number >= 1 and math.isfinite(number)):
            instead = f"type {key}=2 or more, or leave it out" if "degree" in key else f"type {key}=1 or more"
            yield Problem(f"{key}={number:g}", "must be at least 1", instead)
    if config.steps > MAX_STEPS:
        rule = f"schedulers know {MAX_STEPS} timesteps, and more would repeat some"
        yield Problem(f"steps={config.steps}", rule, f"type steps={config.model.steps}, the model's own")
    text, most = config.model.text_tokens, config.model.max_text_tokens
    if most is not None and text > most:
        rule = f"{config.model.pipeline} takes at most {most}"
        yield Problem(f"model.text_tokens={text}", rule, f"type model.text_tokens={most} or leave it out")
    for key, side in (("height", config.height), ("width", config.width)):
        if side > MAX_SIDE:
            yield Problem(f"{key}={side}", f"a side may have {MAX_SIDE} pixels", f"type {key}={MAX_SIDE} or less")
    if config.output.format == "webp" and max(config.height, config.width) > 16383:
        yield Problem("output=webp", "WebP pictures end at 16383 pixels a side", "type output=png")


def facts(request: Request) -> Iterator[Problem]:
    """A model's numbers, which a command line or a file of the user's may change, count something."""
    model = request.config.model
    for key in ("heads", "head_dim", "layers", "vae_scale", "patch", "text_tokens"):
        if not 1 <= (number := getattr(model, key)) <= MAX_FACT:
            yield Problem(f"model.{key}={number}", f"must be from 1 to {MAX_FACT}", "leave it out: it is the model's")


def machine_figures(request: Request) -> Iterator[Problem]:
    """What a machine has is counted, and what it reaches is above 0."""
    config = request.config.machine
    least = {"gpus": 0, "cores": 1}
    for key in (*least, "memory_gib", *FIGURES):
        number = getattr(config, key)
        if number is None:
            continue
        if key in least and not least[key] <= number <= MAX_DEVICES:
            yield Problem(f"machine.{key}={number}", f"must be from {least[key]} to {MAX_DEVICES}", "leave it out")
        elif key not in least and not 0 < number < MAX_FIGURE:
            rule = f"must be above 0 and below {MAX_FIGURE:g}"
            yield Problem(f"machine.{key}={number:g}", rule, "leave it out: the preset's figure is taken")
    if config.efficiency is not None and config.efficiency > 1:
        yield Problem(f"machine.efficiency={config.efficiency:g}", "is a part of the whole", "type 1 or less")


def this_machine(request: Request) -> Iterator[Problem]:
    """A run takes place here; a plan may be for elsewhere."""
    config, typed = (
        request.config.machine,
        [key for key in HARDWARE if getattr(request.config.machine, key) is not None],
    )
    if not request.machine.here:
        value = f"machine={config.name}" if config.name != "here" else f"machine.{typed[0]}={getattr(config, typed[0])}"
        instead = f"leave it out, or plan for it: python -m launcher plan {value} ..."
        yield Problem(value, "a run takes place on this machine only", instead)


def prompts(request: Request) -> Iterator[Problem]:
    """Prompts are text: tokenizers, records and pictures take no lone surrogates, which stand for broken bytes."""
    given = {"prompt": " ".join(request.prompts), "negative_prompt": request.config.negative_prompt or ""}
    for key, text in given.items():
        if any("\ud800" <= char <= "\udfff" for char in text):
            yield Problem(key, "is not UTF-8 text", "type it in a UTF-8 terminal, or use prompt_file=FILE")


def seeds(request: Request) -> Iterator[Problem]:
    """torch's generators take 64 bits; the last picture's seed counts too."""
    last = request.seed + len(request.prompts) * max(1, request.config.images) - 1
    if request.seed < 0 or last > MAX_SEED:
        yield Problem(f"seed={request.seed}", f"seeds go from 0 to {MAX_SEED}", "type seed=0 or leave it out")


def devices(request: Request) -> Iterator[Problem]:
    """The GPUs are there, one a rank; a CPU has cores for its ranks."""
    config, machine = request.config, request.machine
    count = len(machine.gpus)
    if config.runtime.devices is not None:
        value = f"runtime.devices={config.runtime.devices}".replace(" ", "")
        if request.device == "cpu":
            yield Problem(value, "names GPUs, and runtime.device=cpu uses none", "leave one out")
        elif len(set(config.runtime.devices)) != len(config.runtime.devices) or not config.runtime.devices:
            yield Problem(value, "must name GPUs, each once", "type runtime.devices=[0,1] or leave it out")
        elif wrong := [index for index in config.runtime.devices if not 0 <= index < count]:
            have = f"GPUs 0 to {count - 1}" if count else "no CUDA GPU"
            yield Problem(value, f"this machine has {have}, not {choices(wrong)}", "leave it out to use what is there")
    if request.device == "cpu":
        if config.model.needs_gpu and config.runtime.device == "auto":
            rule = f"is too large for a CPU, and this machine has {machine}"
            instead = "type model=flux_tiny, or insist with runtime.device=cpu (hours a picture)"
            yield Problem(f"model={config.model.name}", rule, instead)
        if config.runtime.offload == "model":
            yield Problem("runtime.offload=model", "moves weights off a GPU, and this run uses none", "leave it out")
    elif request.device == "cuda" and count == 0 and config.runtime.devices is None:
        yield Problem("runtime.device=cuda", f"this machine has {machine}", "type runtime.device=cpu or leave it out")


def kernels(request: Request) -> Iterator[Problem]:
    """The kernel runs on this device, in this dtype, with this head size."""
    kernel = KERNELS.get(request.config.attention.kernel)
    if kernel is None:
        return  # named by words
    value, head_dim = f"attention.kernel={kernel.name}", request.config.model.head_dim
    if request.device not in ("cpu", "cuda"):
        return  # named by words
    if request.device not in kernel.devices:
        device = "CPU" if request.device == "cpu" else "GPU"
        yield Problem(value, f"does not run on a {device}, which this run uses", "type attention=auto")
    elif request.dtype in DTYPES and request.dtype not in kernel.dtypes:
        instead = f"type runtime.dtype={kernel.dtypes[-1]} or attention=auto"
        yield Problem(value, f"computes in {choices(kernel.dtypes)}, and this run in {request.dtype}", instead)
    for gpu in request.machine.gpus:
        if gpu.index in request.devices and gpu.capability and gpu.capability < kernel.capability:
            have, least = (".".join(map(str, each)) for each in (gpu.capability, kernel.capability))
            rule = f"needs compute capability {least}, and GPU {gpu.index} ({gpu.name}) has {have}"
            yield Problem(value, rule, "type attention=auto")
            break
    if kernel.head_dim_max and head_dim > kernel.head_dim_max:
        rule = f"takes heads of up to {kernel.head_dim_max} channels, and {request.config.model.name} has {head_dim}"
        yield Problem(value, rule, "type attention=auto")
    if kernel.head_dim_multiple and head_dim % kernel.head_dim_multiple:
        rule = f"takes heads of a multiple of {kernel.head_dim_multiple} channels, and there are {head_dim}"
        yield Problem(value, rule, "type attention=auto")
    if (
        request.machine.here
        and kernel.package
        and importlib.util.find_spec(MODULES.get(kernel.package, kernel.package)) is None
    ):
        yield Problem(value, f"needs the package {kernel.package}, which is not installed", "type attention=auto")


def guidance(request: Request) -> Iterator[Problem]:
    """No option is ignored: guidance and negative prompts go to models that take them."""
    config, model = request.config, request.config.model
    takes_scale = model.guidance_embeds or model.guidance_cfg
    if config.guidance is not None:
        value = f"guidance={config.guidance:g}"
        if not math.isfinite(config.guidance) or config.guidance < 0:
            yield Problem(value, "must be a number from 0", f"type guidance={model.guidance or 3.5}")
        elif not takes_scale:
            rule = f"{model.name} takes no distilled guidance scale"
            yield Problem(value, rule, "leave it out, or type model.true_cfg=2 for classifier-free guidance")
    elif takes_scale:
        instead = f"type guidance={model.guidance or 3.5} or leave it out"
        yield Problem("guidance=null", f"{model.name} needs a guidance scale", instead)
    scale = "guidance" if model.guidance_cfg else "model.true_cfg"
    if not (math.isfinite(model.true_cfg) and model.true_cfg >= 1):
        yield Problem(f"model.true_cfg={model.true_cfg:g}", "must be 1 (off) or more", f"type {scale}=2")
    elif model.guidance_cfg and model.true_cfg > 1:
        rule = f"{model.name} takes its classifier-free guidance scale as guidance"
        yield Problem(f"model.true_cfg={model.true_cfg:g}", rule, f"type guidance={model.true_cfg:g} instead")
    if config.negative_prompt is not None and request.negative_prompt is None:
        yield Problem(
            "negative_prompt",
            f"has no effect while {scale} is 1 (off)",
            f"type {scale}=2, which doubles the work, or leave it out",
        )


def output_folder(request: Request) -> Iterator[Problem]:
    """Pictures can be written: an own folder with room in it."""
    if not request.machine.here:
        return
    value = f"output.dir={request.config.output.dir}"
    try:
        folder = Path(os.path.expanduser(request.config.output.dir))
        there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        if not there.is_dir():
            yield Problem(value, f"{there.name} is a file", "choose another folder: output.dir=FOLDER")
        elif not os.access(there, os.W_OK | os.X_OK):
            yield Problem(value, "cannot be written to", "choose another folder: output.dir=FOLDER")
        else:
            count = max(1, request.config.images) * max(1, len(request.prompts))
            pixels = max(1, request.requested.height) * max(1, request.requested.width) * max(1, request.frames or 1)
            need = (1 << 20) + 4 * count * pixels
            if (free := shutil.disk_usage(there).free) < need:
                what = "pictures" if request.frames is None else "videos"
                rule = f"has {free / 2**20:.0f} MiB free, and {count} {what} may take {need / 2**20:.0f} MiB"
                yield Problem(value, rule, "choose a folder on another disk: output.dir=FOLDER")
    except (OSError, ValueError) as error:
        yield Problem(value, f"is no usable folder ({error})", "choose another: output.dir=FOLDER")


def weights(request: Request) -> Iterator[Problem]:
    """The model's weights are here, or can be fetched."""
    yield from revision_problems(request.config.model)
    if request.machine.here:
        yield from weights_problems(request.config.model)


def reachable(request: Request) -> Iterator[Problem]:
    """Weights that are not here come from the hub, which must answer. Behind a proxy it is the proxy's to say.

    Looked up last, for it is the only rule that waits for a network.
    """
    model = request.config.model
    if not request.machine.here or folder(model) is not None or "https" in urllib.request.getproxies():
        return
    from huggingface_hub import constants  # milliseconds; the rest of that package takes a second

    flaw = connection_flaw(constants.ENDPOINT)
    if flaw is not None:
        rule = f"the weights are not in the cache, and {constants.ENDPOINT} cannot be reached ({flaw})"
        yield Problem(f"model.path={model.path}", rule, f"connect, or type model.path=FOLDER for a local copy, {HERE}")


RULES: tuple[Rule, ...] = (
    words,
    counts,
    facts,
    machine_figures,
    prompts,
    seeds,
    devices,
    *SHARING,
    frames,
    positions,
    kernels,
    guidance,
    lora,
    output_folder,
    weights,
)


def problems(request: Request, plan: bool = False) -> list[Problem]:
    """Everything that is wrong with a request: empty when it can run.

    Args:
        plan: it may be for another machine.
    """
    rules = RULES if plan else (this_machine, *RULES)
    found = [*request.problems, *(problem for rule in rules for problem in rule(request))]
    return found or list(reachable(request))
