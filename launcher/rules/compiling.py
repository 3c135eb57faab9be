"""torch.compile: a model and the company that it was tested in, and a compiler that is here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from launcher.compiling import FULL, NONE, REGIONAL, WAYS
from launcher.problems import Problem, choices
from launcher.request.request import Request
from launcher.rules.rule import rule

LEAVE = "leave it out"
COMPILERS = ("g++", "clang++", "gcc", "clang")  # one of them, or what CXX names, builds what torch writes


@rule
def compiled(request: Request) -> Iterator[Problem]:
    """Only what was tested together: what else the request asks of the transformer may change what is compiled."""
    config, model = request.config, request.config.model
    how = config.compile
    if how == NONE or how not in WAYS:
        return
    value = f"compile={how}"
    if how not in model.compiles:
        tested = [f"compile={each}" for each in model.compiles]
        what = f"was not tested with {model.name}"
        yield Problem(value, what, f"type {choices(tested)}, or {LEAVE}" if tested else LEAVE)
        return
    if request.cache.on:
        yield Problem(value, f"was not tested with cache={request.cache.name}", f"type cache=none, or {LEAVE}")
    if (offload := config.runtime.offload) != "none":
        instead = f"type runtime.offload=none, or {LEAVE}"
        yield Problem(value, f"was not tested with runtime.offload={offload}", instead)
    if (config.lora.path is not None or config.lora.stack) and not config.lora.fuse:
        what = "compiles anew for each LoRA and scale that are put on beside the weights"
        yield Problem(value, what, f"type lora.fuse=true, or {LEAVE}")
    if how == FULL and request.weights == "sharded":
        instead = f"type compile={REGIONAL}, or " if REGIONAL in model.compiles else ""
        what = "one graph can't hold weights that are gathered block by block"
        yield Problem(f"{value} runtime.weights=sharded", what, f"{instead}type compile=none")
    if config.cp.implementation != "own":
        what = "was not tested with diffusers' own context parallelism"
        yield Problem(value, what, f"type cp.implementation=own, or {LEAVE}")
    if request.mode == "none" and (kernel := config.attention.kernel) not in ("auto", "native"):
        yield Problem(value, f"was not tested with attention={kernel} on one rank", f"type attention=auto, or {LEAVE}")
    if (model.transformer or "").endswith(".gguf"):
        yield Problem(value, "was not tested with a GGUF transformer", LEAVE)
    if request.machine.here and not any(map(shutil.which, (os.environ.get("CXX", "g++"), *COMPILERS))):
        yield Problem(value, "needs a C++ compiler, and there is none", f"install g++, or {LEAVE}")
