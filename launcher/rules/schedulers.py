"""The scheduler: one that can follow what the model predicts, and settings that act on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from launcher.families import sources
from launcher.families.fits import FITS
from launcher.families.fits import NOISE as PREDICT_NOISE
from launcher.families.parts import installed
from launcher.families.tasks import strength
from launcher.problems import Problem, choices
from launcher.request.request import Request
from launcher.rules.rule import rule
from launcher.schedulers import (
    DYNAMIC_ONLY,
    EULER,
    FLOW,
    SOLVERS,
    SPACED,
    SPACINGS,
    TAKE_SIGMAS,
    Wish,
    chosen,
    fitting,
    predicts,
)

AUTO = "leave it out"


@rule
def scheduler(request: Request) -> Iterator[Problem]:
    """The scheduler fits the model, and each of its settings acts."""
    wish, model = request.scheduler, request.config.model
    value = f"scheduler={wish.name}"
    if wish.name not in ("auto", *SOLVERS):
        what = f"unknown option; choose from {', '.join(('auto', *SOLVERS))}"
        yield Problem(f"scheduler.name={wish.name}", what, "type scheduler=auto")
        return
    if wish.sigmas is not None and wish.sigmas not in SPACINGS:
        what = f"unknown option; choose from {', '.join(SPACINGS)}"
        yield Problem(f"scheduler.sigmas={wish.sigmas}", what, f"type scheduler.sigmas={SPACINGS[0]}")
        return
    if wish.shift is not None and not (math.isfinite(wish.shift) and 0 < wish.shift <= 100):
        yield Problem(f"scheduler.shift={wish.shift:g}", "must be above 0, and at most 100", "type scheduler.shift=3")
        return
    own = request.inputs.checkpoint.scheduler
    if not own and model.pipeline in FITS and model.pipeline not in PREDICT_NOISE:  # still to be fetched
        own = {"_class_name": EULER, "use_dynamic_shifting": True}
    if own and (found := _times(request, own)) is not None:
        yield found
        return
    if wish.name == "euler" and sources.gives_whole_times(model.pipeline):
        yield Problem(value, f"refuses the whole numbers that {model.pipeline} has for times", "type scheduler=unipc")
        return
    if wish.empty or not own:
        return
    flow, kind = predicts(own) == FLOW, chosen(wish, own)
    names = [name for name in fitting(own) if not _unfit(request, own, SOLVERS[name][predicts(own)])]
    instead = f"type {choices(f'scheduler={name}' for name in names)}" if names else AUTO
    if kind is None:
        have = str(own.get("_class_name"))
        what = f"can't follow what {model.name} predicts, which needs " + (f"a {have}" if not names else "another")
        yield Problem(value, what, instead)
        return
    if why := _unfit(request, own, kind):
        yield Problem(value, why, instead)
    if wish.shift is not None and not flow:
        what = f"shifts the sigmas of a flow, which the {own['_class_name']} of {model.name} doesn't do"
        yield Problem(f"scheduler.shift={wish.shift:g}", what, AUTO)
    if wish.sigmas is not None:
        value = f"scheduler.sigmas={wish.sigmas}"
        if kind not in SPACED or (flow and kind != EULER):
            spaced = _spaced(names, flow)
            instead = f"type {choices(spaced)}" if spaced else AUTO
            yield Problem(value, f"a {kind} has no such spacing", instead)
        elif wish.sigmas == "beta" and not installed("scipy"):
            yield Problem(value, "needs the package scipy, which is not installed", "type pip install scipy")
    yield from _options(request, kind)


def _unfit(request: Request, own: Mapping[str, Any], kind: str) -> str:
    """Why a scheduler's class can't serve the request; "" where it can."""
    model, flow = request.config.model, predicts(own) == FLOW
    node = sources.pipeline(model.pipeline)
    if kind == EULER and sources.gives_whole_times(model.pipeline):
        return f"refuses the whole numbers that {model.pipeline} has for times"
    if flow and kind != EULER and strength(request.config) is not None:
        return "can't start from a picture"
    if flow and kind not in TAKE_SIGMAS and node is not None and sources.gives_sigmas(node):
        return f"can't follow the sigmas that {model.pipeline} gives its scheduler"
    static = request.scheduler.shift is not None or not own.get("use_dynamic_shifting")
    if flow and kind in DYNAMIC_ONLY and node is not None and static and sources.gives_mu(node):
        if not own.get("use_dynamic_shifting"):
            return f"can't keep the shift of {model.name}, which is the same for each size"
        return f"takes no shift but the one that {model.pipeline} finds for each size"
    return ""


def _times(request: Request, own: Mapping[str, Any]) -> Problem | None:
    """A pipeline that gives its scheduler the times leaves nothing to choose, nor to a shift by the size."""
    wish, model = request.scheduler, request.config.model
    if not sources.gives_times(model.pipeline):
        return None
    if own.get("use_dynamic_shifting"):
        what = f"its scheduler shifts by the size, and {model.pipeline} gives it times that are shifted already"
        return Problem(
            f"model.path={model.path}", what, "type model=ltx_video, or the folder of LTX-Video 0.9.5 or later"
        )
    if wish in (Wish(), Wish("euler")) and own.get("_class_name") == EULER:
        return None
    value = next((f"scheduler.{key}" for key in ("shift", "sigmas", "options") if getattr(wish, key)), "scheduler")
    return Problem(value, f"{model.pipeline} has times of its own, for each token", AUTO)


def _spaced(names: list[str], flow: bool) -> list[str]:
    return [
        f"scheduler={name}" for name in names if (name == "euler" if flow else SOLVERS[name].get("noise") in SPACED)
    ]


def _options(request: Request, kind: str) -> Iterator[Problem]:
    """Each option is one of the class's, of its kind, and none that a setting of its own has."""
    node = sources.scheduler(kind)
    init = sources.method(node, "__init__") if node is not None else None
    known = sources.parameters(init) if init is not None else {}
    for name, given in (request.scheduler.options or {}).items():
        value = f"scheduler.options={{{name}:{given}}}"
        default = known.get(name)
        if name in ("shift", "flow_shift"):
            yield Problem(value, "has a setting of its own", f"type scheduler.shift={given}")
        elif name not in known:
            yield Problem(value, f"{kind} has no such option; it has {', '.join(sorted(known))}", AUTO)
        elif not isinstance(given, (bool, int, float, str)):
            yield Problem(value, "must be a number, true, false or text", AUTO)
        elif isinstance(default, (bool, str)) and type(given) is not type(default):
            kinds = "true or false" if isinstance(default, bool) else "text"
            yield Problem(value, f"must be {kinds}; its default is {str(default).lower()}", AUTO)
        elif isinstance(default, (int, float)) and not isinstance(default, bool) and type(given) not in (int, float):
            yield Problem(value, f"must be a number; its default is {default}", AUTO)
