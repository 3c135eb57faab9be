"""What makes a request fit the memory that is free, cheapest first: a note names it, and memory=auto takes it.

Each option is tried: the request is resolved with it, memory.py's estimate must find room on every rank and for what
loading takes of main memory, and no rule may refuse it. In the order of what they cost:

    vae.slicing=true         decodes a batch's pictures one after another
    vae.tiling=true          decodes where tiles overlap twice, once a picture; its seams blend
    runtime.weights=sharded  weights travel in each step; the picture is the same to the bit
    runtime.offload=model    each part of the pipeline travels to the GPU and back for each picture
    cp=MODE                  another mode of cp=auto's table, the fastest first: other buffers, or fewer ranks on a CPU
    cp.ring_degree=4 ...     more ranks, where GPUs are idle
    runtime.dtype=bfloat16   half of what float32 takes, and another picture

then two of them at once; then, alone and beside each of them:

    runtime.offload=group    the transformer's weights travel to the GPU in each step, a block while another computes
    runtime.offload=sequential  all weights do, each layer's when it is to compute: the least memory and the most time

With cp=auto each is priced anew in every mode, so sharded weights come with the fastest mode
that takes them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from attention_backends.catalog import MODES
from launcher import offloading
from launcher.config.schema import LaunchConfig
from launcher.decoding import TILED
from launcher.estimates import memory
from launcher.families import sources
from launcher.problems import Problem
from launcher.request.request import Request
from launcher.rules import RULES

AUTO = "auto"
LESS = 0.95  # of the memory that was planned
Again = Callable[[LaunchConfig], Request]
Settings = dict[str, Any]


@dataclass(frozen=True)
class Saving:
    """What is typed, and the request that it makes, which fits."""

    words: tuple[str, ...]
    request: Request


def roomier(request: Request, again: Again) -> Request:
    """memory=auto: the request with the cheapest option that makes it fit, and why; without one a problem says so.

    Args:
        again: resolves a changed configuration for the same machine and inputs.
    """
    short = shortage(request)
    if request.config.memory != AUTO or short is None:
        return request
    saving = cheapest(request, again)
    if saving is None:
        instead = "type a smaller size, or leave it out to try"
        found = Problem(f"memory={AUTO}", f"{short}, and no option here makes it fit", instead)
        return replace(request, unfit=(found,))
    why = f"memory={AUTO} takes {' '.join(saving.words)}: without it {short}"
    return replace(saving.request, taken=saving.words, taken_why=why)


def cheapest(request: Request, again: Again) -> Saving | None:
    """The cheapest option that makes a request fit, or two; None where none does.

    With memory=auto what was typed stays: a mode, degrees, weights and a dtype. What is only named may replace them.
    """
    known = refused(request)
    for several in _in_order(request):
        settings = {key: value for each in several for key, value in each.items()}
        if len(settings) < sum(map(len, several)):  # both decide the same
            continue
        tried = again(_changed(request.config, settings))
        if shortage(tried) is None and refused(tried) <= known:
            return Saving(tuple(_typed(key, value) for key, value in settings.items()), tried)
    return None


def smaller(request: Request, again: Again) -> Saving | None:
    """The cheapest option with which a rank needs less by a twentieth, of a request that should fit and did not."""
    known, need = refused(request), memory.estimate(request)
    for settings in _options(request) if need is not None else ():
        tried = again(_changed(request.config, settings))
        less = memory.estimate(tried)
        if less is not None and need is not None and less.total < LESS * need.total and refused(tried) <= known:
            return Saving(tuple(_typed(key, value) for key, value in settings.items()), tried)
    return None


def shortage(request: Request) -> str | None:
    """What does not fit, in words, an estimate; None if all does, as far as it is known."""
    for rank, need, free in memory.lacking(request)[:1]:
        who = f"rank {rank} needs" if request.shares else "each rank needs"
        return f"{who} about {need.total / memory.GIB:.1f} GiB, and {free:.1f} GiB are free"
    loading, there = memory.while_loading(request), memory.host_free_gib(request)
    if loading is not None and there is not None and loading > there * memory.GIB:
        needed = f"about {loading / memory.GIB:.1f} GiB of main memory"
        return f"loading takes {needed}, and {there:.1f} GiB are free"
    return None


def _in_order(request: Request) -> Iterator[tuple[Settings, ...]]:
    """What may be tried together, the cheapest first."""
    options = list(_options(request))
    for count in (1, 2):
        yield from itertools.combinations(options, count)
    ways, own = offloading.WAYS, request.config.runtime.offload
    less = ways[ways.index(own) + 1 :] if own in ways and request.device == "cuda" else ()
    for slower in [{"runtime.offload": how} for how in offloading.IN_PIECES if how in less]:
        yield (slower,)
        yield from ((each, slower) for each in options)


def _options(request: Request) -> Iterator[Settings]:
    """What may be tried, each by what is typed."""
    config, size, stays = request.config, request.rendered, request.config.memory == AUTO
    tested = sources.part_of(config.model.pipeline, "vae") in TILED
    if tested and config.batch > 1 and not config.vae.slicing:
        yield {"vae.slicing": True}
    if tested and max(size.height, size.width) > request.tile and not config.vae.tiling:
        yield {"vae.tiling": True}
    if request.mesh.ranks > 1 and request.weights != "sharded" and (config.runtime.weights == AUTO or not stays):
        yield {"runtime.weights": "sharded"}
    if request.device == "cuda" and config.runtime.offload == offloading.NONE:
        yield {"runtime.offload": offloading.MODEL}
    for mode in _modes(request):
        yield {"cp.mode": mode}
    if not stays:
        yield from _more_ranks(request)
    if request.dtype == "float32" and (config.runtime.dtype == "auto" or not stays):
        yield {"runtime.dtype": "bfloat16"}


def _modes(request: Request) -> list[str]:
    """cp=auto's other modes, the fastest first; of a mode that was typed there are none."""
    own = (request.mode, request.mesh.cfg)
    legal = [one for one in request.ways if not one.problems and one.mesh.cfg == 1 and (one.mode, 1) != own]
    return [one.mode for one in sorted(legal, key=lambda one: one.seconds)] if request.config.cp.mode == AUTO else []


def _more_ranks(request: Request) -> Iterator[Settings]:
    """More GPUs, where there are idle ones and a mode, or a number of ranks, was typed."""
    cp, mode, ranks = request.config.cp, MODES.get(request.mode), request.mesh.sequence
    there = request.machine.nodes * len(request.usable) // max(1, request.mesh.cfg)
    if request.device != "cuda" or mode is None or request.config.runtime.processes is not None:
        return
    for more in (2 * ranks, 3 * ranks, 4 * ranks, there):
        if not ranks < more <= there:
            continue
        if not mode.parallel:
            yield {"cp.mode": mode.any_length(masked=request.masked), "runtime.processes": more}
        elif cp.ulysses_degree is not None and mode.has_ulysses:
            yield {"cp.ulysses_degree": more // request.mesh.ring}
        elif cp.ring_degree is not None:
            yield {"cp.ring_degree": more // request.mesh.ulysses}


def _changed(config: LaunchConfig, settings: Settings) -> LaunchConfig:
    """A configuration with some settings changed, which are those of a section each."""
    for key, value in settings.items():
        section, name = key.split(".")
        config = replace(config, **{section: dataclasses.replace(getattr(config, section), **{name: value})})
    return config


def _typed(key: str, value: Any) -> str:
    """A setting as it is typed; a mode by its file."""
    return f"{'cp' if key == 'cp.mode' else key}={str(value).lower()}"


def refused(request: Request) -> set[Problem]:
    """What is wrong with a request, wherever it runs."""
    return {problem for rule in RULES for problem in rule(request)}
