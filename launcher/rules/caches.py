"""Caches of steps: a model and a pipeline that one was tested with, and settings that it takes."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator

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
            takers = [f"cache={each}" for each, takes in SETTINGS.items() if name in takes]
            yield Problem(typed(f"cache.{name}", given), f"{value} takes none", f"type {choices(takers)}, or {LEAVE}")
    if asked.name == NONE:
        return
    if asked.name not in model.caches:
        tested = [f"cache={each}" for each in model.caches]
        what = f"was not tested with {model.name}"
        yield Problem(value, what, f"type {choices(tested)}, or {LEAVE}" if tested else LEAVE)
        return
    task = task_of(request.config)
    pipeline = (task.pipeline if task is not None else None) or model.pipeline
    if not _has(pipeline, NEEDS[asked.name]):
        what = f"{pipeline} does not tell it which of its calls or steps it is in (it has no {NEEDS[asked.name]})"
        yield Problem(value, what, LEAVE)
    if asked.name == "pab" and request.passes == 2 and model.guidance_branches == "calls":
        what = f"{pipeline} calls its transformer twice a step, and one call would be given the other's attention"
        others = [f"cache={each}" for each in model.caches if each != "pab"]
        yield Problem(value, what, f"type {choices(others)}, or {LEAVE}" if others else LEAVE)
    if asked.name == "faster" and request.passes == 2:
        what = "was tested where a step has one pass of the transformer, and guidance makes it two"
        others = [f"cache={each}" for each in model.caches if each != "faster"]
        yield Problem(value, what, f"type {choices(others)}, or {LEAVE}")
    yield from _numbers(request)


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
