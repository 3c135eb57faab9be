"""Weights that wait in main memory and come in pieces: a model that they were tested with, and with what else."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.families import sources
from launcher.offloading import IN_PIECES, MODEL, UNFIT
from launcher.problems import Problem
from launcher.request.request import Request
from launcher.rules.rule import rule


@rule
def offloaded(request: Request) -> Iterator[Problem]:
    """Each layer computes where it is called, and it was tried together with what else is asked for."""
    config, model, how = request.config, request.config.model, request.config.runtime.offload
    if how not in IN_PIECES or request.device != "cuda":
        return
    value = f"runtime.offload={how}"
    instead = f"type runtime.offload={MODEL}"
    if kind := request.inputs.checkpoint.planless:
        yield Problem(value, f"was not tested with a {kind}", instead)
        return
    kinds = {sources.part_of(model.pipeline, name) for name in model.transformers}
    for kind in {model.pipeline, *kinds} & UNFIT.keys():
        yield Problem(value, f"does not work with {kind}: {UNFIT[kind]}", instead)
    untried = {
        "cp.implementation=diffusers": config.cp.implementation == "diffusers",
        f"model.transformer={model.transformer}": (model.transformer or "").endswith(".gguf"),
    }
    for key, given in untried.items():
        if given:
            yield Problem(f"{value} {key}", "were not tried together", instead)
