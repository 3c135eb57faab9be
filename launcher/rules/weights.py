"""Sharded weights: several ranks to share them, and nothing beside them that was not tried together."""

from __future__ import annotations

from collections.abc import Iterator

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
    if config.runtime.weights != SHARDED:
        return
    if request.mesh.ranks == 1:
        yield Problem(VALUE, "there is one rank to hold them", "type cp=ring_anything, or leave it out")
    if request.mesh.cfg > 1:
        what = "all ranks gather a block's weights together, and the halves of guidance compute at different times"
        yield Problem(f"{VALUE} cp.cfg_degree={request.mesh.cfg}", what, "leave one of them out")
    if config.cp.implementation == "diffusers":
        yield _untried("cp.implementation=diffusers")


@rule
def sharded_alone(request: Request) -> Iterator[Problem]:
    """What goes with whole weights alone, however the ranks share their work."""
    if request.config.runtime.weights == SHARDED:
        yield from (_untried(key) for key, given in _given(request).items() if given)


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
        f"compile={config.compile}": config.compile != "none",
        f"cluster={config.cluster.name}": config.cluster.name != "none",
    }
