"""Caches of steps: a model and a pipeline that one was tested with, and settings that it takes."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator

from launcher import compiling
from launcher.caches import NEEDS, NONE, SETTINGS
from launcher.families import sources
from launcher.families.tasks import task_of
from launcher.problems import Problem, choices, nearest
from launcher.request.request import Request
from launcher.rules.rule import rule, typed
from launcher.wording import plural

LEAVE = "leave it out"
MAX_ORDER = 4
MOST_RATIOS = 1000


@rule
def cache(request: Request) -> Iterator[Problem]:
    """The cache is one that the model was tested with, and each of its settings acts."""
    asked, model = request.config.cache, request.config.model
    value = f"cache={asked.name}"
    if asked.name not in SETTINGS:
        best = (nearest(asked.name, SETTINGS, 1) or [NONE])[0]
        what = f"unknown option; choose from {', '.join(SETTINGS)}"
        yield Problem(f"cache.name={asked.name}", what, f"type cache={best}")
        return
    for name in sorted({name for takes in SETTINGS.values() for name in takes} - set(SETTINGS[asked.name])):
        if (given := getattr(asked, name)) is not None:
            takers = [each for each, takes in SETTINGS.items() if name in takes]
            yield Problem(typed(f"cache.{name}", given), f"{value} takes none", _instead(request, takers))
    if asked.name == NONE:
        return
    if why := _unfit(request, asked.name):
        yield Problem(value, why, _instead(request, list(SETTINGS)))
    if asked.name in model.caches:
        yield from _numbers(request)


def _unfit(request: Request, name: str) -> str:
    """Why a cache can't serve the request; "" where it can."""
    model, task = request.config.model, task_of(request.config)
    if name not in model.caches:
        return f"was not tested with {model.name}"
    pipeline = (task.pipeline if task is not None else None) or model.pipeline
    if not _has(pipeline, NEEDS[name]):
        return f"{pipeline} does not tell it which of its calls or steps it is in (it has no {NEEDS[name]})"
    if name == "pab" and request.passes == 2 and model.guidance_branches == "calls":
        return f"{pipeline} calls its transformer twice a step, and one call would be given the other's attention"
    if name == "faster" and request.passes == 2:
        return "was tested where a step has one pass of the transformer, and guidance makes it two"
    return ""


def _instead(request: Request, names: list[str]) -> str:
    """What to type: those of these caches that can serve the request."""
    config = request.config
    if config.compile != compiling.NONE or config.cp.implementation != "own":  # which were tested without
        return LEAVE
    known = config.model.mag_ratios or config.cache.ratios
    fit = [name for name in names if name != NONE and not _unfit(request, name) and (name != "mag" or known)]
    return f"type {choices(f'cache={name}' for name in fit)}, or {LEAVE}" if fit else LEAVE


def _has(pipeline: str, name: str) -> bool:
    """Whether a pipeline's class names this; True where its source is not here."""
    node = sources.pipeline(pipeline)
    named = (
        getattr(each, "attr", getattr(each, "name", None))
        for each in (ast.walk(node) if node is not None else ())
        if isinstance(each, (ast.Attribute, ast.FunctionDef))
    )
    return node is None or name in named


def _numbers(request: Request) -> Iterator[Problem]:
    """What the settings may be."""
    asked, steps = request.config.cache, request.denoising_steps
    if asked.threshold is not None and not (math.isfinite(asked.threshold) and asked.threshold >= 0):
        default = SETTINGS[asked.name].get("threshold")
        what = "must be a number from 0, which skips nothing" if asked.name == "first_block" else "must be from 0"
        yield Problem(f"cache.threshold={asked.threshold:g}", what, f"type cache.threshold={default}")
    if asked.interval is not None and asked.interval < 2:
        what = "must be at least 2: one step in so many is computed"
        yield Problem(f"cache.interval={asked.interval}", what, "type cache.interval=2")
    if asked.warmup is not None and asked.warmup < 1:
        yield Problem(f"cache.warmup={asked.warmup}", "must be at least 1", "type cache.warmup=1")
    if asked.order is not None and not 0 <= asked.order <= MAX_ORDER:
        yield Problem(f"cache.order={asked.order}", f"must be from 0 to {MAX_ORDER}", "type cache.order=1")
    warmup = request.cache.warmup
    if warmup is not None and warmup >= steps:
        value = "cache=" + asked.name if asked.warmup is None else f"cache.warmup={warmup}"
        what = f"computes the first {plural(warmup, 'step')}, and there {'is' if steps == 1 else 'are'} {steps}"
        yield Problem(value, what, f"type steps={warmup + 2} or more, or {LEAVE}")
    if asked.name == "mag":
        yield from _ratios(request)


def _ratios(request: Request) -> Iterator[Problem]:
    model, given = request.config.model, request.config.cache.ratios
    if given is None:
        if not model.mag_ratios:
            what = f"needs cache.ratios, and {model.name} has none; MagCacheConfig(calibrate=True) finds them"
            yield Problem("cache=mag", what, "type cache.ratios=[1.0,1.02,...], or another cache")
    elif len(given) < 2 or len(given) > MOST_RATIOS or any(not (math.isfinite(x) and x > 0) for x in given):
        what = f"takes 2 to {MOST_RATIOS} numbers above 0, one a step"
        yield Problem(typed("cache.ratios", given), what, "type cache.ratios=[1.0,1.02,...] or leave it out")
