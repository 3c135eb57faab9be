"""Hooks for a plan in diffusers' own form.

{module name: {parameter or number of an output: ContextParallelInput}, or ContextParallelOutput, or a list of them}
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from attention_backends.diffusers_seam.hooks import GatherHook, NameHook, SplitHook
from attention_backends.diffusers_seam.planned import modules
from attention_backends.diffusers_seam.upkeep import Upkeep, class_name
from attention_backends.plan import PlanError
from attention_backends.state import ContextParallel

_HOOK = "attention_backends---{}"
# What a class splits that every rank must have a part of, because its code reshapes the part with a -1: a timestep for
# each token, and text with the mask that goes with it. Other classes take ranks without tokens, or have not been tried.
NEEDS_TOKENS = {
    "WanTransformer3DModel": {"timestep"},
    "LTXVideoTransformer3DModel": {"encoder_hidden_states"},
    "LTX2VideoTransformer3DModel": {"encoder_hidden_states"},
}


def apply(
    model: torch.nn.Module, plan: Mapping[str, Any], state: ContextParallel, upkeep: Upkeep, *, own: bool
) -> list[Any]:
    """Hook a model up as the plan says.

    own: it is the class's, which may name more blocks than this model has.

    Returns:
        The processors whose attention goes over all ranks.

    Raises:
        PlanError: it can't be followed.
    """
    kind = class_name(model)
    if own and kind == "HeliosTransformer3DModel" and getattr(model.config, "is_amplify_history", False):
        raise PlanError(
            f"{kind} with is_amplify_history counts its history in every attention, which diffusers' own plan splits "
            "before. Pass a cp_plan that splits at blocks.0 and counts original_context_length."
        )
    attentions = [(path, one) for path, one in model.named_modules() if getattr(one, "processor", None) is not None]
    shared = [(path, one.processor) for path, one in attentions if hasattr(one.processor, "_parallel_config")]
    if not shared:
        raise PlanError(
            f"no attention processor of {kind} asks diffusers' dispatcher. Pass a cp_plan with the keys split, gather "
            "and local: with it torch's own attention is shared too."
        )
    for path, one in attentions:
        if not hasattr(one.processor, "_parallel_config"):
            raise PlanError(
                f"{path} has a processor ({type(one.processor).__name__}) that can't be told to go over ranks. Pass a "
                "cp_plan with the keys split, gather and local: with it torch's own attention is shared too."
            )
        upkeep.processor(path)
        upkeep.hook(path, partial(NameHook, path, state), _HOOK.format("name"))
    state.never_empty = frozenset(NEEDS_TOKENS.get(kind, ()))
    gathers = False
    for name, entry in plan.items():
        for path, _ in _found(model, name, own=own):
            if isinstance(entry, dict):
                upkeep.hook(path, partial(SplitHook, path, entry, state), _HOOK.format(name))
            else:
                outputs = list(entry) if isinstance(entry, (list, tuple)) else [entry]
                upkeep.hook(path, partial(GatherHook, path, outputs, state), _HOOK.format(name))
                gathers = True
    if not gathers:
        raise PlanError("cp_plan gathers nothing: name the module whose output is put together again.")
    return list({id(processor): processor for _, processor in shared}.values())


def _found(model: torch.nn.Module, name: str, *, own: bool) -> list[tuple[str, torch.nn.Module]]:
    try:
        return list(modules(model, name))
    except PlanError:
        if own and _beyond_a_list(model, name):
            return []
        raise


def _beyond_a_list(model: torch.nn.Module, name: str) -> bool:
    """Whether there is no such module because a list has fewer."""
    here: Any = model
    for part in name.split("."):
        if isinstance(here, torch.nn.ModuleList) and part.isdigit() and int(part) >= len(here):
            return True
        here = getattr(here, part, None)
    return False
