"""Every constraint on a request, in files by what they judge. Another rule is another function under `@rule`."""

from __future__ import annotations

from launcher.problems import Problem
from launcher.request.request import Request
from launcher.rules import (
    batches,
    caches,
    clusters,
    compiling,
    decoding,
    devices,
    files,
    kernels,
    model,
    numbers,
    offloading,
    pictures,
    quantizing,
    schedulers,
    shares,
    sharing,
    weights,
    words,
)
from launcher.rules.rule import Rule, of

ROOMS = (
    words,
    numbers,
    batches,
    devices,
    sharing,
    shares,
    weights,
    model,
    pictures,
    schedulers,
    caches,
    clusters,
    compiling,
    quantizing,
    offloading,
    decoding,
    kernels,
    files,
)
RULES: tuple[Rule, ...] = of(*(room.__name__ for room in ROOMS))


def problems(request: Request, plan: bool = False) -> list[Problem]:
    """Everything that is wrong with a request: empty when it can run.

    Args:
        plan: it may be for another machine.
    """
    rules = RULES if plan else (devices.this_machine, model.task, pictures.missing, *RULES)
    found = [*request.problems, *(problem for rule in rules for problem in rule(request))]
    return found or list(files.reachable(request))
