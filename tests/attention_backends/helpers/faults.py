"""Tiny models over ranks, one of which does in one forward what it should not: what fuzz.py draws and runs."""

import math
import time
from collections.abc import Callable
from typing import Any

import tiny
import torch
import torch.distributed as dist

import attention_backends

# Lists of blocks, the last block of which may be skipped: its neighbours take what it was given.
BLOCKS = {
    "flux": ("transformer_blocks", "single_transformer_blocks"),
    "qwen": ("transformer_blocks",),
    "wan": ("blocks",),
    "ltx": ("transformer_blocks",),
}
FAULT = "FloatingPointError: a fault of this rank"
PATIENCE = 1.0
ABSENT = 20.0  # seconds that the others have to find out, on a busy machine too
TURNS = 4  # the fault is in the second


def build(name: str, size: list[int]) -> tuple[Any, dict[str, Any]]:
    """size: of flux and qwen the drawn and the text tokens, else frames, height, width and text tokens."""
    if name in ("flux", "qwen"):
        drawn, text = size
        if name == "flux":
            return tiny.flux(layers=2), tiny.flux_inputs(drawn, text)
        return tiny.qwen().double(), _double(tiny.qwen_inputs(1, drawn, text, hidden=0))
    return getattr(tiny, name)().double(), _double(getattr(tiny, f"{name}_inputs")(*size))


def _double(inputs: dict[str, Any]) -> dict[str, Any]:
    floats = {name: x for name, x in inputs.items() if isinstance(x, torch.Tensor) and x.is_floating_point()}
    return inputs | {name: x.double() for name, x in floats.items() if name != "timestep"}


def exact(group: dist.ProcessGroup, model: str, size: list[int], arguments: dict[str, Any], masked: bool) -> float:
    """How far a forward over ranks is from one process's, in parts of its largest number.

    masked: the end of one prompt is hidden, or all of it where the model hides by a large number (LTX).
    """
    built, inputs = build(model, size)
    if masked and model == "qwen":
        inputs["encoder_hidden_states_mask"] = torch.ones(2, size[-1], dtype=torch.bool)
        inputs["encoder_hidden_states_mask"][1, -1] = False
    if masked and model == "ltx":
        inputs["encoder_attention_mask"][0] = False
    with torch.no_grad():
        expected = built(**inputs)[0]
        attention_backends.enable(built, process_group=group, patience=PATIENCE, **arguments)
        try:
            found = built(**inputs)[0]
        finally:
            attention_backends.disable(built)
    return float((found - expected).abs().max() / expected.abs().max())


def faulty(
    group: dist.ProcessGroup, model: str, size: list[int], arguments: dict[str, Any], fault: str, who: int, at: float
) -> dict[str, Any]:
    """What came of each forward, "right", "wrong by" or an error, and the seconds that the longest took.

    at: of a fault that has a place, which: 0 for the first, nearly 1 for the last.
    """
    odd, outcomes, longest = dist.get_rank(group) == who, [], 0.0
    built, inputs = build(model, size)
    with torch.no_grad():
        expected = built(**inputs)[0]
    refused = _enabled(built, group, arguments, differs=fault if odd else "")
    if refused:
        return {"outcomes": [refused], "seconds": 0.0}
    for turn in range(TURNS):
        began, undo, given = time.monotonic(), _nothing, inputs
        if odd and turn == 1:
            if fault == "absent":
                _stay_away(group)
                outcomes.append("right")
                continue
            given, undo = _change(built, model, size, inputs, fault, at)
        try:
            outcomes.append(_forward(built, given, expected, backward=fault == "backward"))
        except Exception as error:
            outcomes.append(f"{type(error).__name__}: {error}")
        undo()
        if fault == "absent" and turn == 1:
            group.get_group_store().set(f"left {dist.get_rank(group)}", "")
        longest = max(longest, time.monotonic() - began)
    attention_backends.disable(built)
    return {"outcomes": outcomes, "seconds": longest}


def _stay_away(group: dist.ProcessGroup) -> None:
    """Wait until the other ranks have left the forward that this one does not come to."""
    store, end = group.get_group_store(), time.monotonic() + ABSENT
    others = [f"left {rank}" for rank in range(dist.get_world_size(group)) if rank != dist.get_rank(group)]
    while not store.check(others) and time.monotonic() < end:
        time.sleep(0.5)  # seldom: a rank that computes is not taken for one that stands still
    for key in others:
        store.delete_key(key)


def _enabled(built: Any, group: dist.ProcessGroup, arguments: dict[str, Any], differs: str) -> str:
    if differs == "mode":
        arguments = {**arguments, "schedule": "staged" if arguments.get("schedule") == "gather" else "gather"}
    if differs == "kernel":
        arguments = {**arguments, "kernel": "fast"}
    try:
        attention_backends.enable(built, process_group=group, patience=PATIENCE, **arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _forward(built: Any, given: dict[str, Any], expected: torch.Tensor, *, backward: bool) -> str:
    with torch.set_grad_enabled(backward):
        found = built(**given)[0]
    if backward:
        found.sum().backward()
    if found.shape != expected.shape:
        return f"wrong: {tuple(found.shape)} in place of {tuple(expected.shape)}"
    off = float((found.detach() - expected).abs().max() / expected.abs().max())
    return "right" if off < 1e-10 else f"wrong by {off:.1e}"


def _nothing() -> None: ...


def _change(
    built: Any, model: str, size: list[int], inputs: dict[str, Any], fault: str, at: float
) -> tuple[dict[str, Any], Callable[[], Any]]:
    """The arguments of the forward with a fault, and what undoes what was done to the model."""
    if fault == "batch":
        whole = [name for name, x in inputs.items() if isinstance(x, torch.Tensor) and "ids" not in name]
        return inputs | {name: torch.cat([inputs[name]] * 2) for name in whole}, _nothing
    if fault == "lengths":
        return build(model, [*size[:-1], size[-1] + 1])[1], _nothing
    if fault == "timestep":
        return inputs | {"timestep": inputs["timestep"] + 1}, _nothing
    if fault == "mask":
        mask = torch.ones(inputs["encoder_hidden_states"].shape[:2], dtype=torch.bool)
        mask[:, -1] = False
        return inputs | {"encoder_hidden_states_mask": mask}, _nothing
    if fault == "dtype":
        drawn = {name: x.clone() for name, x in built.state_dict().items()}
        built.float()
        floats = {name: x.float() for name, x in inputs.items() if getattr(x, "dtype", None) == torch.float64}
        return inputs | floats, lambda: built.double().load_state_dict(drawn)
    if fault == "skip":
        lists = BLOCKS[model]
        block = getattr(built, lists[math.floor(at * len(lists))])[-1]
        kept = block.forward
        block.forward = _passes
        return inputs, lambda: setattr(block, "forward", kept)
    modules = [module for name, module in built.named_modules() if name and not isinstance(module, torch.nn.ModuleList)]
    if fault == "backward":
        parameters = list(built.parameters())
        handle: Any = parameters[math.floor(at * len(parameters))].register_hook(_fail)
    else:
        handle = modules[math.floor(at * len(modules))].register_forward_hook(_fail)
    return inputs, handle.remove


def _passes(*args: Any, **given: Any) -> Any:
    """A block's outputs in place of what it would compute: what it was given."""
    hidden = args[0] if args else given["hidden_states"]
    text = args[1] if len(args) > 1 else given.get("encoder_hidden_states")
    return (text, hidden) if "joint_attention_kwargs" in given else hidden


def _fail(*_: Any) -> None:
    raise FloatingPointError("a fault of this rank")
