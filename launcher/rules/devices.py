"""The machine, its GPUs and its cores."""

from __future__ import annotations

from collections.abc import Iterator

from launcher import offloading
from launcher.installed import version
from launcher.machines import HARDWARE
from launcher.problems import Problem, choices
from launcher.request.request import Request
from launcher.rules.rule import rule


def this_machine(request: Request) -> Iterator[Problem]:
    """A run takes place here; a plan may be for elsewhere, and is not asked this."""
    config = request.config.machine
    typed = [key for key in HARDWARE if getattr(config, key) is not None]
    if not request.machine.here:
        value = f"machine={config.name}" if config.name != "here" else f"machine.{typed[0]}={getattr(config, typed[0])}"
        instead = f"leave it out, or plan for it: python -m launcher plan {value} ..."
        yield Problem(value, "a run uses this machine; others can only be planned for", instead)


@rule
def devices(request: Request) -> Iterator[Problem]:
    """The GPUs are there, one a rank; a CPU has cores for its ranks."""
    config, machine = request.config, request.machine
    there = [gpu.index for gpu in request.whole.gpus]
    if config.runtime.devices is not None:
        value = f"runtime.devices={config.runtime.devices}".replace(" ", "")
        if request.device == "cpu":
            yield Problem(value, "names GPUs, and runtime.device=cpu uses none", "leave one out")
        elif len(set(config.runtime.devices)) != len(config.runtime.devices) or not config.runtime.devices:
            yield Problem(value, "must list GPUs, each once", "type runtime.devices=[0,1] or leave it out")
        elif wrong := [index for index in config.runtime.devices if index not in there]:
            have = f"GPUs {', '.join(map(str, there))}" if there else "no CUDA GPU"
            yield Problem(value, f"this machine has {have}, not {choices(wrong)}", "leave it out to use what is there")
    if request.device == "cpu":
        if config.model.needs_gpu and config.runtime.device == "auto":
            what = f"too large for a CPU; this machine has {machine}"
            instead = "type model=flux_tiny, or insist with runtime.device=cpu (hours a picture)"
            yield Problem(f"model={config.model.name}", what, instead)
        if (how := config.runtime.offload) in offloading.WAYS[1:]:
            what = "moves weights off a GPU, and this run uses none"
            yield Problem(f"runtime.offload={how}", what, "leave it out, or type runtime.offload=none")
    elif request.device == "cuda" and not there and config.runtime.devices is None:
        yield Problem("runtime.device=cuda", f"this machine has {machine}", "type runtime.device=cpu or leave it out")
    if request.device == "cuda" and there and machine.asked and (build := torch_build()).endswith("+cpu"):
        instead = "install a CUDA build of torch (https://pytorch.org/get-started), or type runtime=cpu"
        yield Problem("runtime.device=cuda", f"the installed torch {build} is built for CPUs only", instead)


@rule
def check(request: Request) -> Iterator[Problem]:
    """A self-check compares several ranks with one."""
    if request.config.check and request.mesh.ranks == 1:
        alone = request.device == "cuda" and len(request.usable) < 2
        instead = "leave it out" if alone else "type cp=ring_anything, or leave it out"
        yield Problem("check=true", "compares several ranks with one, and this run has one process", instead)


def torch_build() -> str:
    """The version of torch that is installed, "" without any."""
    return version("torch") or ""
