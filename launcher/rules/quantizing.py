"""Quantised weights: a model that they were tested with, what computes with them, and nothing that was not tried."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from launcher.config.model_schema import ModelConfig
from launcher.families import sources
from launcher.problems import Problem
from launcher.quantizing import CAPABILITY, EXTRAS, NONE, PACKAGES, UNFIT, WAYS
from launcher.request.loras import loras
from launcher.request.request import Request
from launcher.rules.rule import rule


@rule
def quantized(request: Request) -> Iterator[Problem]:
    """The model and the device take it, its package is here, and it was tried with what else is asked for."""
    config, how = request.config, request.config.quantization
    if how == NONE or how not in WAYS:
        return
    value, package = f"quantization={how}", PACKAGES[how]
    if kind := request.inputs.checkpoint.planless:
        yield Problem(value, f"was not tested with a {kind}", "leave it out")
        return
    if kind := _unfit(config.model):
        yield Problem(value, f"{package} can't compute the attention of a {kind}", "leave it out")
        return
    for key, given in _untried(request).items():
        if given:
            yield Problem(f"{value} {key}", "were not tried together", "leave one of them out")
    least = CAPABILITY.get(how, ())
    for gpu in request.machine.gpus:
        if gpu.index in request.devices and gpu.capability and gpu.capability < least:
            have, needed = (".".join(map(str, each)) for each in (gpu.capability, least))
            what = f"needs compute capability {needed}; GPU {gpu.index} ({gpu.name}) has {have}"
            yield Problem(value, what, "type quantization=int8")
            break
    if request.machine.here and find_spec(package) is None:
        what = f"needs the package {package}, which is not installed"
        yield Problem(value, what, f"type pip install '.[{EXTRAS[package]}]' or pip install {package}")


def _unfit(model: ModelConfig) -> str:
    """The class of a transformer that can't be quantised so; "" of others."""
    kinds = {sources.part_of(model.pipeline, name) for name in model.transformers}
    return next((kind for kind in UNFIT if kind in kinds), "")


def _untried(request: Request) -> dict[str, bool]:
    """What does not go with it, as it is typed."""
    config = request.config
    return {
        "cp.implementation=diffusers": config.cp.implementation == "diffusers",
        f"runtime.offload={config.runtime.offload}": config.runtime.offload != "none",
        f"runtime.weights={request.weights}": request.weights != "replicated",
        f"model.transformer={config.model.transformer}": config.model.transformer is not None,
        "lora.path=...": bool(loras(config.lora)),
        f"cluster={config.cluster.name}": config.cluster.name != "none",
    }
