"""Numbers: each has a least and a most, with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from launcher.machines import FIGURES, MAX_DEVICES, MAX_FIGURE
from launcher.nodes import MAX_NODES
from launcher.problems import Problem
from launcher.request.geometry import SIZE
from launcher.request.request import MAX_PICTURES, MAX_RANKS, Request
from launcher.rules.rule import rule, typed

MAX_SIDE = 65536  # pixels: beyond it file formats and decoders give up
MAX_STEPS = 1000
MAX_SEED = 2**63 - 1
MAX_BATCH = 256  # pictures of one call: memory ends earlier
MAX_SECONDS = 7 * 24 * 3600  # a week
MIN_AREA = 64 * 64  # pixels of a picture that is looked at
MAX_FACT = 1 << 16  # of a model's counts
MAX_TEXT = 1 << 20  # text tokens
THREADS_PER_CORE = 8  # more of them only wait for each other, and take the machine's own
LEAST_STALL = 5  # seconds: a rank tells that it is alive every second, and a busy machine is late


@dataclass(frozen=True)
class Range:
    """What a number may be. `why`: the reason for the upper end, with it."""

    most: float
    why: str
    least: float = 1


def ranges(request: Request) -> dict[str, Range]:
    """The range of each number that a user may set."""
    pictures = max(1, MAX_PICTURES // max(1, len(request.prompts)))
    files = f"a run makes at most {MAX_PICTURES} pictures"
    if len(request.prompts) > 1:
        files += f", and there are {len(request.prompts)} prompts"
    side = Range(MAX_SIDE, f"the largest supported side is {MAX_SIDE} pixels")
    ranks = Range(MAX_RANKS, f"one host runs at most {MAX_RANKS} ranks")
    week = Range(MAX_SECONDS, f"the longest is a week, {MAX_SECONDS} seconds")
    return {
        "height": side,
        "width": side,
        "steps": Range(MAX_STEPS, f"schedulers have {MAX_STEPS} timesteps, and more steps would repeat some"),
        "images": Range(pictures, files),
        "batch": Range(MAX_BATCH, f"a call draws at most {MAX_BATCH} pictures"),
        "model.text_tokens": Range(MAX_TEXT, f"no text encoder reads more than {MAX_TEXT}"),
        "cp.ring_degree": ranks,
        "cp.ulysses_degree": ranks,
        "cp.cfg_degree": Range(2, "classifier-free guidance has two branches"),
        "runtime.processes": ranks,
        "runtime.timeout": week,
        "runtime.stall_timeout": Range(week.most, week.why, LEAST_STALL),
        "runtime.start_timeout": week,
        "cluster.port": Range(65535, "the highest port is 65535"),
        "cluster.join_timeout": week,
        "cluster.tasks_per_node": ranks,
        "cluster.array_parallelism": Range(1000, "Slurm's arrays have 1001 elements"),
        "cluster.gpus_per_node": Range(MAX_DEVICES, f"a machine has at most {MAX_DEVICES}"),
        "cluster.timeout_min": Range(MAX_SECONDS // 60, week.why),
        "cluster.signal_delay_s": Range(65535, "Slurm takes 65535 seconds at most"),
        "cluster.nodes": Range(MAX_NODES, f"at most {MAX_NODES} machines work together"),
    }


@rule
def counts(request: Request) -> Iterator[Problem]:
    """Numbers that count something, or seconds."""
    for key, range_ in ranges(request).items():
        number = _get(request, key)
        if number is None:
            continue
        if not number >= range_.least:  # NaN is not
            instead = f"type {key}={range_.least:g} or more"
            if "degree" in key:
                instead = f"type {key}=2 or more, or leave it out"
            yield Problem(f"{key}={number:g}", f"must be at least {range_.least:g}", instead)
        elif number > range_.most:
            yield Problem(f"{key}={number:.10g}", range_.why, f"type {key}={range_.most:.10g} or less")
    if (prompts := len(request.prompts)) > MAX_PICTURES:
        rule_ = f"holds {prompts} prompts, and a run makes at most {MAX_PICTURES} pictures"
        yield Problem(f"prompt_file={request.config.prompt_file}", rule_, "split it into several files")


def _get(request: Request, key: str) -> float | None:
    """The value of a dotted setting that is a number."""
    value: object = request.config
    for part in key.split("."):
        value = getattr(value, part)
    assert value is None or isinstance(value, (int, float))
    return value


@rule
def threads(request: Request) -> Iterator[Problem]:
    """Threads of all ranks alike, or of each."""
    given, cores = request.config.runtime.threads, request.machine.cores
    value, most = typed("runtime.threads", given), THREADS_PER_CORE * cores
    numbers = given if isinstance(given, list) else [] if given is None else [given]
    if given == [] or any(not isinstance(number, int) or isinstance(number, bool) for number in numbers):
        rule_ = "takes a whole number, or a list with one for each rank"
        yield Problem(value, rule_, "type runtime.threads=2 or runtime.threads=[2,1]")
    elif any(number < 1 for number in numbers):
        yield Problem(value, "must be at least 1", "type runtime.threads=1 or more")
    elif any(number > most for number in numbers):
        rule_ = f"{cores} cores serve at most {most} threads of a rank"
        yield Problem(value, rule_, f"type runtime.threads={most} or less")


@rule
def seeds(request: Request) -> Iterator[Problem]:
    """torch's generators take 64 bits; the last picture's seed counts too."""
    last = request.seed + len(request.prompts) * max(1, request.images) - 1
    if request.seed < 0 or last > MAX_SEED:
        yield Problem(f"seed={request.seed}", f"seeds range from 0 to {MAX_SEED}", "type seed=0 or leave it out")


@rule
def facts(request: Request) -> Iterator[Problem]:
    """A model's numbers, which a command line or a file of the user's may change, count something."""
    model = request.config.model
    for key in ("heads", "head_dim", "layers", "vae_scale", "patch", "vae_width", "vae_patch"):
        if not 1 <= (number := getattr(model, key)) <= MAX_FACT:
            yield Problem(f"model.{key}={number}", f"must be from 1 to {MAX_FACT}", "leave it out: it is the model's")
    if not 0 < model.vae_tensors <= MAX_FACT:
        rule = f"must be above 0 and at most {MAX_FACT}"
        yield Problem(f"model.vae_tensors={model.vae_tensors:g}", rule, "leave it out: it is the model's")
    if (single := model.single_layers) is not None and not 0 <= single <= model.layers:
        rule = f"must be from 0 to model.layers, {model.layers}"
        yield Problem(f"model.single_layers={single}", rule, "leave it out: it is the model's")
    for key in ("frames_per_latent", "max_positions", "max_text_tokens", "vae_frames"):
        number = getattr(model, key)
        if number is not None and not 1 <= number <= MAX_TEXT:
            yield Problem(f"model.{key}={number}", f"must be from 1 to {MAX_TEXT}", "leave it out: it is the model's")
    for key in ("transformer_params", "text_params", "vae_params"):
        number = getattr(model, key)
        if number is not None and not 1 <= number < 1 << 62:
            yield Problem(f"model.{key}={number}", "must count parameters", "leave it out: it is the model's")
    for size in model.reference_sizes or ():
        if not SIZE.fullmatch(size):
            yield Problem(f"model.reference_sizes={size}", "must be HEIGHTxWIDTH", "leave it out: it is the model's")
    for key in ("reference_area", "reference_most"):
        area = getattr(model, key)
        if area is not None and not MIN_AREA <= area <= MAX_SIDE * MAX_SIDE:
            what = f"must count pixels, from {MIN_AREA} to {MAX_SIDE * MAX_SIDE}"
            yield Problem(f"model.{key}={area}", what, "leave it out: it is the model's")
    if not 0 <= model.text_dropped <= MAX_TEXT:
        rule_ = f"must be from 0 to {MAX_TEXT}"
        yield Problem(f"model.text_dropped={model.text_dropped}", rule_, "leave it out: it is the model's")


@rule
def machine_figures(request: Request) -> Iterator[Problem]:
    """What a machine has is counted, and what it reaches is above 0."""
    config = request.config.machine
    least = {"nodes": 1, "gpus": 0, "cores": 1}
    for key in (*least, "memory_gib", *FIGURES):
        number = getattr(config, key)
        if number is None:
            continue
        if key in least and not least[key] <= number <= MAX_DEVICES:
            yield Problem(f"machine.{key}={number}", f"must be from {least[key]} to {MAX_DEVICES}", "leave it out")
        elif key not in least and not 0 < number < MAX_FIGURE:
            rule_ = f"must be above 0 and below {MAX_FIGURE:g}"
            yield Problem(f"machine.{key}={number:g}", rule_, "leave it out: the preset's figure is used")
    if config.efficiency is not None and config.efficiency > 1:
        yield Problem(f"machine.efficiency={config.efficiency:g}", "is a fraction of the whole", "type 1 or less")
