"""Schedulers by the short names that users have for them, and which of them can follow what a model predicts.

Without torch: rules ask here before a start, and ranks ask the same with the scheduler that they have loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FLOW, NOISE, COGVIDEOX = "flow", "noise", "cogvideox"
EULER, UNIPC = "FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler"
# The class that is meant, by what the model predicts. Those that draw noise at each step, or call the model twice in
# one, are left out.
SOLVERS: dict[str, dict[str, str]] = {
    "euler": {FLOW: EULER, NOISE: "EulerDiscreteScheduler"},
    "unipc": {FLOW: UNIPC, NOISE: UNIPC},
    "dpmpp_2m": {FLOW: "DPMSolverMultistepScheduler", NOISE: "DPMSolverMultistepScheduler"},
    "deis": {FLOW: "DEISMultistepScheduler", NOISE: "DEISMultistepScheduler"},
    "ddim": {NOISE: "DDIMScheduler", COGVIDEOX: "CogVideoXDDIMScheduler"},
    "dpm": {COGVIDEOX: "CogVideoXDPMScheduler"},
}
SPACINGS = ("karras", "exponential", "beta")
SPACED = (EULER, "EulerDiscreteScheduler", UNIPC, "DPMSolverMultistepScheduler", "DEISMultistepScheduler")
# Of those for flows: a shift that depends on the size must be on if a pipeline gives one.
DYNAMIC_ONLY = ("DPMSolverMultistepScheduler", "DEISMultistepScheduler")
TAKE_SIGMAS = (EULER, UNIPC)  # of those for flows: pipelines that make their own give them to set_timesteps
# Schedulers of diffusers that can take each other's place where noise is predicted (KarrasDiffusionSchedulers there).
EXCHANGEABLE = (
    "DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler",
    "HeunDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
    "DEISMultistepScheduler", "UniPCMultistepScheduler",
)  # fmt: skip


@dataclass(frozen=True)
class Wish:
    """What is asked of a scheduler; None and "auto" leave it as the model has it.

    Args:
        name: of SOLVERS. shift: of a flow's sigmas towards noise. sigmas: how they are spaced, of SPACINGS.
        options: of the class, by their own names.
    """

    name: str = "auto"
    shift: float | None = None
    sigmas: str | None = None
    options: dict[str, object] | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is asked."""
        return self == Wish()


def predicts(own: Mapping[str, Any]) -> str:
    """What a model predicts, by its own scheduler's configuration; "" where no other scheduler can follow it."""
    kind = str(own.get("_class_name", ""))
    flow = own.get("use_flow_sigmas") is True or own.get("prediction_type") == "flow_prediction"
    if kind == EULER or (flow and kind in EXCHANGEABLE):
        return FLOW
    if kind.startswith("CogVideoX"):
        return COGVIDEOX
    return NOISE if kind in EXCHANGEABLE else ""


def chosen(wish: Wish, own: Mapping[str, Any]) -> str | None:
    """The class that a wish means for a model; None where there is none for what it predicts."""
    if wish.name == "auto":
        return str(own.get("_class_name", ""))
    return SOLVERS.get(wish.name, {}).get(predicts(own))


def fitting(own: Mapping[str, Any]) -> list[str]:
    """The names that a model can be asked for."""
    return [name for name, classes in SOLVERS.items() if predicts(own) in classes]


def changes(wish: Wish, own: Mapping[str, Any], kind: str) -> dict[str, object]:
    """What a scheduler's own configuration is changed by, for a class that takes its place.

    Args:
        kind: the class, of `chosen`.
    """
    found: dict[str, object] = {}
    if predicts(own) == FLOW:
        key = "shift" if kind.startswith("FlowMatch") else "flow_shift"
        shift = own.get("shift", own.get("flow_shift"))
        if wish.shift is not None:  # a schedule that depends on the size would pass over it
            found |= {key: wish.shift, "use_dynamic_shifting": False}
        elif shift is not None:
            found[key] = shift
        if key == "flow_shift":
            found |= {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    if wish.sigmas is not None:
        found |= {f"use_{each}_sigmas": each == wish.sigmas for each in SPACINGS}
    return found | (wish.options or {})
