"""Sharded weights: several ranks to share them, and nothing beside them that was not tried together."""

from __future__ import annotations

from collections.abc import Iterator

from attention_backends.catalog import MODES
from launcher.machines import devices
from launcher.problems import Problem
from launcher.request.loras import loras
from launcher.request.request import Request
from launcher.rules.rule import rule

SHARDED = "sharded"
VALUE = f"runtime.weights={SHARDED}"


@rule
def sharded(request: Request) -> Iterator[Problem]:
    """All ranks gather each block's weights together, and then compute that block."""
    config = request.config
    if request.weights != SHARDED:
        return
    if request.mesh.ranks == 1:
        yield Problem(VALUE, "sharded weights need at least 2 ranks", _more_ranks(request))
    if request.mesh.cfg > 1:
        what = "all ranks gather a block's weights together, and the halves of guidance compute at different times"
        yield Problem(f"{VALUE} cp.cfg_degree={request.mesh.cfg}", what, "leave one of them out")
    if config.cp.implementation == "diffusers":
        yield _untried("cp.implementation=diffusers")


def _more_ranks(request: Request) -> str:
    """What to type for ranks that share the weights, where there are devices for them."""
    mode, alone = MODES.get(request.mode, MODES["none"]), "leave it out"
    parallel = f"cp={(mode if mode.parallel else MODES['ring']).any_length(masked=request.masked)}"
    if request.device == "cuda" and request.machine.nodes * len(request.usable) < 2:
        groups = devices(request.whole, request.config.runtime.devices)[0] // 2
        return f"type {parallel} data={groups}, or {alone}" if request.groups > 1 and groups else alone
    if request.processes == 1:
        return f"type runtime.processes=2, or {alone}" if mode.parallel else f"type {parallel} runtime.processes=2"
    return f"type {parallel}, or {alone}"


@rule
def sharded_alone(request: Request) -> Iterator[Problem]:
    """What goes with whole weights alone, however the ranks share their work."""
    if request.weights != SHARDED:
        return
    yield from (_untried(key) for key, given in _given(request).items() if given)
    if request.machine.nodes > 1 and request.config.cluster.name == "none":
        yield Problem(VALUE, "was not tried on several machines", "leave it out")


def _untried(key: str) -> Problem:
    return Problem(f"{VALUE} {key}", "were not tried together", "leave one of them out")


def _given(request: Request) -> dict[str, bool]:
    """What does not go with it, as it is typed."""
    config = request.config
    return {
        "cp.transport=host": config.cp.transport == "host" and request.device == "cuda",
        f"runtime.offload={config.runtime.offload}": config.runtime.offload != "none",
        f"cache={config.cache.name}": config.cache.name != "none",
        f"model.transformer={config.model.transformer}": (config.model.transformer or "").endswith(".gguf"),
        "lora.path=...": bool(loras(config.lora)),
        f"cluster={config.cluster.name}": config.cluster.name != "none",
    }
