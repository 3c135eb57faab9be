"""enable() and disable(): what diffusers' `enable_parallelism` does, on any device, with this package's attention.

Hooks split inputs and gather the output, and a `_parallel_config` on every attention processor sends its attention
here. Of diffusers' own way it leaves out the parts that need an accelerator.
"""

import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from attention_backends import compiled
from attention_backends.catalog import KERNELS, MODES, NOT_SUPPORTED, SCHEDULES, TRANSPORTS, mode_name
from attention_backends.diffusers_seam import later, own_plan, planned
from attention_backends.diffusers_seam.dispatch import (
    BACKEND,
    BACKENDS,
    ROTARY,
    dispatcher,
    passes_empty,
    register_packages,
)
from attention_backends.diffusers_seam.hooks import ForwardHook
from attention_backends.diffusers_seam.undo import Undo, set_attribute, take_over
from attention_backends.diffusers_seam.upkeep import Upkeep
from attention_backends.plan import is_plain, parse
from attention_backends.state import ContextParallel
from attention_backends.topology import Topology
from attention_backends.transport import device
from attention_backends.watch import PATIENCE
from attention_backends.wire import wire_of
from attention_backends.workload import Speeds

register_packages()


def enable(
    model: torch.nn.Module,
    *,
    mode: str | None = None,
    ring_degree: int = 1,
    ulysses_degree: int = 1,
    ring_anything: bool = False,
    ulysses_anything: bool = False,
    unified_anything: bool = False,
    attention2d: bool = False,
    shares: Sequence[int] = (),
    kernel: str = "auto",
    schedule: str = "auto",
    speeds: Speeds | None = None,
    transport: str = "auto",
    cp_plan: dict[str, Any] | None = None,
    process_group: dist.ProcessGroup | None = None,
    patience: float = PATIENCE,
    overlap: bool = True,
) -> ContextParallel:
    """Shard the sequence of a diffusers model over ring_degree x ulysses_degree ranks.

    Call it on every rank, after torch.distributed is initialised.

    Args:
        mode: a name of catalog.MODES; or leave it out and say the same by the degrees and diffusers' own flags,
            ring_anything, ulysses_anything and unified_anything; attention2d likewise.
        shares: how the ranks' parts of each stream, and of the heads, compare: whole numbers, one a rank, as (2, 1)
            where the first rank is twice as fast. Empty: equal ones.
        kernel: a name of catalog.KERNELS. schedule: one of catalog.SCHEDULES.
        speeds: what schedule="auto" goes by, if not workload.SPEEDS; schedule.measure finds them. Every rank's the
            same.
        transport: how CUDA tensors travel: "nccl" (every rank has a GPU of its own), "host" (by gloo through host
            memory, so ranks may share a GPU) or "auto", by what the group can.
        cp_plan: what to split and gather, in place of the class's own `_cp_plan`: as plain data (see plan.py), or in
            diffusers' form.
        process_group: the ranks that share the sequence, if not all.
        patience: seconds. If all ranks stand still for so long, each in a wait that no other ends or outside the model
            and computing nothing, they have run apart, and each raises: watch.py.
        overlap: run what needs no keys of other ranks while keys travel, where a plan says what that is and a device
            takes longer for a layer than its host to launch it so (by the speeds). Not under torch.compile.

    Raises:
        ValueError: with the nearest legal values, for arguments that can't work.
    """
    flags = {
        "ring_anything": ring_anything,
        "ulysses_anything": ulysses_anything,
        "unified_anything": unified_anything,
        "attention2d": attention2d,
    }
    wire = wire_of(_group(process_group))
    try:
        named = _mode(mode, ring_degree, ulysses_degree, flags)
        if kernel in NOT_SUPPORTED:
            raise ValueError(f"kernel={kernel!r} {NOT_SUPPORTED[kernel]}.")
        _check_choice("kernel", kernel, tuple(KERNELS))
        if why := KERNELS[kernel].missing():
            raise ValueError(f"kernel={kernel!r} {why}. kernel='auto' picks one that fits.")
        _check_choice("schedule", schedule, SCHEDULES)
        _check_choice("transport", transport, TRANSPORTS)
        if not 0 < patience < math.inf:
            raise ValueError(f"patience={patience}: a number of seconds above 0. Try patience={PATIENCE:g}.")
        wire.patience = patience
        _check_ranks(wire.size(), ring_degree, ulysses_degree)
        topology = Topology(wire, wire.rank(), ring_degree, ulysses_degree, _shares(shares, wire.size(), named))
        state = ContextParallel(named, ring_degree, ulysses_degree, kernel, schedule, "", topology, speeds)
        undo = _switch_on(model, state, cp_plan, overlap)
    except BaseException as error:
        wire.refuse(error)
        raise
    try:
        state.transport = wire.way(transport, _agree(state, type(model).__name__, transport))
        if state.transport not in (in_use := {one.transport for one in compiled.enabled(wire)} or {state.transport}):
            raise ValueError(
                f"transport={state.transport!r}: another model is enabled on these ranks with "
                f"transport={in_use.pop()!r}. Use the same for both."
            )
        wire.by_host = state.transport == "host"
    except BaseException:
        _undo(undo)
        raise
    return state


def _switch_on(
    model: torch.nn.Module, state: ContextParallel, cp_plan: dict[str, Any] | None, overlap: bool
) -> list[Undo]:
    """Hooks, processors and diffusers' tables; returns what undoes it all."""
    if getattr(model, "_parallel_config", None) is not None:
        raise ValueError(
            "context parallelism is already on for this model. Call attention_backends.disable(model) first."
        )
    plan = cp_plan if cp_plan is not None else getattr(model, "_cp_plan", None)
    if plan is None:
        raise ValueError(
            f"{type(model).__name__} has no _cp_plan: pass cp_plan={{module name: what to split or gather}}."
        )
    state.handle = compiled.add(state)
    upkeep = Upkeep(model, state)
    undo: list[Undo] = [partial(compiled.remove, state.handle), upkeep.remove]
    try:
        if is_plain(plan):
            processors = planned.apply(model, parse(plan), state, upkeep)
            meanwhile = [path for path, _ in planned.found(model, parse(plan).meanwhile)]
        else:
            processors = own_plan.apply(model, plan, state, upkeep, own=cp_plan is None)
            meanwhile = []
        if overlap and state.rules.overlaps:
            later.apply(model, meanwhile or later.of_class(model), state, upkeep)
        upkeep.check()
        # Registered last, so that it runs first.
        upkeep.hook("", lambda: ForwardHook(state, upkeep), "attention_backends---forward")
        undo.append(take_over(BACKENDS, BACKEND, dispatcher))
        for table in (vars(sys.modules[kind.__module__]) for kind in type(model).__mro__):
            undo += [take_over(table, name, passes_empty) for name in ROTARY if name in table]
        for processor in processors:
            undo.append(set_attribute(processor, "_attention_backend", BACKEND))
            undo.append(set_attribute(processor, "_parallel_config", state))
        undo.append(set_attribute(model, "_parallel_config", state))
        undo.append(set_attribute(model, "_attention_backends_undo", undo))
    except BaseException:
        _undo(undo)
        raise
    return undo


def _undo(steps: list[Undo]) -> None:
    for step in reversed(steps):
        step()


def _group(process_group: dist.ProcessGroup | None) -> dist.ProcessGroup:
    if not dist.is_initialized():
        raise ValueError("torch.distributed is not initialised: call torch.distributed.init_process_group first.")
    group = process_group if process_group is not None else dist.group.WORLD
    if not isinstance(group, dist.ProcessGroup):  # what new_group gives to those who are not in it
        raise ValueError("this process is not in process_group: call enable() on the ranks of the group only.")
    return group


def _mode(mode: str | None, ring_degree: int, ulysses_degree: int, flags: dict[str, bool]) -> str:
    if mode is not None:
        _check_choice("mode", mode, tuple(name for name, row in MODES.items() if row.parallel))
        flags |= MODES[mode].flags
    named = mode_name(ring_degree, ulysses_degree, **flags)
    if mode not in (None, named):
        raise ValueError(
            f"mode={mode!r} with ring_degree={ring_degree} and ulysses_degree={ulysses_degree}: these degrees mean "
            f"{named}."
        )
    return named


def _check_ranks(world: int, ring_degree: int, ulysses_degree: int) -> None:
    needed = ring_degree * ulysses_degree
    if world != needed:
        raise ValueError(
            f"ring_degree={ring_degree} x ulysses_degree={ulysses_degree} = {needed}, but there are {world} ranks. "
            f"Try ring_degree={world // ulysses_degree or 1}, or start {needed} ranks."
        )


def _shares(shares: Sequence[int], world: int, mode: str) -> tuple[int, ...]:
    told = f"shares={list(shares)}"
    if shares and len(shares) != world:
        raise ValueError(f"{told}: one a rank, and there are {world}. Try shares={[2] + [1] * (world - 1)}.")
    if any(not isinstance(share, int) or isinstance(share, bool) or share < 1 for share in shares):
        raise ValueError(f"{told}: whole numbers, at least 1. Try shares={[2] + [1] * (world - 1)}.")
    if len(set(shares)) > 1 and MODES[mode].even:
        longer = dict.fromkeys((MODES[mode].any_length(), MODES[mode].any_length(masked=True)))
        raise ValueError(f"{told}: {mode} shares tokens equally. Leave them out, or use {' or '.join(longer)}.")
    return tuple(shares)


def _agree(state: ContextParallel, model: str, transport: str) -> list[str]:
    """Every rank's device. Raises ValueError, alike on every rank, unless all ranks enable alike."""
    told = {
        name: str(getattr(state, name))
        for name in ("mode", "ring_degree", "ulysses_degree", "kernel", "schedule", "speeds")
    }
    told |= {"shares": str(state.topology.shares), "model": model, "transport": transport}
    told["overlap"] = str(bool(state.meanwhile))
    told |= {"patience": str(state.wire.patience), "device": device()}
    everyone: list[dict[str, str]] = [json.loads(answer) for answer in state.wire.agree(json.dumps(told))]
    devices = [answer.pop("device") for answer in everyone]
    for rank, answer in enumerate(everyone):
        for name, value in answer.items():
            if value != everyone[0][name]:
                raise ValueError(
                    f"rank 0 enables with {name}={everyone[0][name]}, rank {rank} with {name}={value}: call enable() "
                    "alike on every rank."
                )
    return devices


def disable(model: torch.nn.Module) -> None:
    """Undo `enable`: the model is left as it was found."""
    undo = getattr(model, "_attention_backends_undo", None)
    if undo is None:
        raise ValueError("attention_backends is not enabled on this model: there is nothing to disable.")
    _undo(undo)


def _check_choice(name: str, value: str, legal: tuple[str, ...]) -> None:
    if value not in legal:
        raise ValueError(f"{name}={value!r}: unknown {name}; choose from {', '.join(legal)}.")
