"""Rules on how ranks share the sequence: tried for each mode of a plan's table. See rules.py for the others.

They are those of diffusers' `ContextParallelConfig` and of its dispatcher (0.42.1, models/_modeling_parallel.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attention_backends.catalog import MODES
from launcher.problems import Problem, choices
from launcher.request.geometry import divisors, sizes_that_divide
from launcher.request.request import MAX_RANKS, Request
from launcher.rules.model import masks

Rule = Callable[[Request], Iterator[Problem]]

MAX_FACT = 1 << 16  # of a model's counts
RANKS_PER_CORE = 8  # more ranks than that on a CPU only wait for each other
RANKS_PER_GPU = 8  # each holds all weights


def processes(request: Request) -> Iterator[Problem]:
    """The product of the degrees is the number of processes."""
    mesh, asked, mode = request.mesh, request.processes, MODES.get(request.mode)
    if mode is None or not mesh.whole or (asked is not None and asked < 1):
        return  # named by words and counts
    if not mode.parallel:
        given = {"cp.ring_degree": mesh.ring, "cp.ulysses_degree": mesh.ulysses, "runtime.processes": asked or 1}
        for key, number in given.items():
            if number > 1:
                parallel = "cp=ulysses_anything" if "ulysses" in key else "cp=ring_anything"
                rule = f"cp={mode.name} runs in one process"
                yield Problem(f"{key}={number}", rule, f"leave it out or type {parallel}")
    elif asked is not None and (mismatch := mesh.mismatch(asked)):
        instead = f"type runtime.processes={mesh.ranks} or leave it out"
        yield Problem(f"runtime.processes={asked}", f"must be the product of the degrees: {mismatch}", instead)


def modes(request: Request) -> Iterator[Problem]:
    """What each cp mode asks of its degrees, as diffusers' ContextParallelConfig does."""
    mode, ring, ulysses = MODES.get(request.mode), request.mesh.ring, request.mesh.ulysses
    if mode is None or not request.mesh.whole:
        return
    if request.config.cp.schedule != "auto" and not mode.has_ring:
        rule = f"only modes with a ring have schedules, and this is cp={mode.name}"
        yield Problem(f"cp.schedule={request.config.cp.schedule}", rule, "leave it out")
    if not mode.parallel:
        return  # its degrees are named by processes
    axes = (("ring", ring, mode.ring, "a ring"), ("ulysses", ulysses, mode.ulysses, "Ulysses"))
    excluded = [(name, degree, what) for name, degree, takes, what in axes if takes == "one" and degree > 1]
    for name, degree, what in excluded:
        both = "unified" if mode.even else "unified_anything"
        instead = f"leave it out, or type cp={both} instead of cp={mode.name}"
        yield Problem(f"cp.{name}_degree={degree}", f"cp={mode.name} excludes {what}", instead)
    short = [(name, degree) for name, degree, takes, _ in axes if takes == "many" and degree < 2]
    if mode.has_ring and mode.has_ulysses:
        for name, degree in short:
            rule = f"cp={mode.name} combines both, each with 2 ranks or more ({ring} x {ulysses} here)"
            other = "ulysses" if name == "ring" else "ring"
            yield Problem(f"cp.{name}_degree={degree}", rule, f"type cp.{name}_degree=2 or cp={other}")
        if not short and request.mesh.sequence < 2:
            instead = "type cp.ring_degree=2, cp.ulysses_degree=2 or cp=none"
            yield Problem(f"cp={mode.name}", "needs 2 ranks or more", instead)
    elif not excluded:
        for name, degree in short:
            instead = f"type cp.{name}_degree=2 or cp=none"
            yield Problem(f"cp.{name}_degree={degree}", f"cp={mode.name} needs 2 ranks or more", instead)


def transport(request: Request) -> Iterator[Problem]:
    """How CUDA tensors travel is a choice only where there are ranks with GPUs."""
    typed = request.config.cp.transport
    if typed in ("nccl", "host") and request.device == "cpu":
        yield Problem(f"cp.transport={typed}", "is how GPUs exchange, and this run uses none", "leave it out")
    elif typed in ("nccl", "host") and request.mesh.ranks == 1:
        yield Problem(f"cp.transport={typed}", "one process has nobody to send to", "leave it out")


def a_device_each(request: Request) -> Iterator[Problem]:
    """One GPU a rank, unless they exchange by host memory; a CPU has cores for its ranks."""
    machine, chosen, world = request.machine, request.config.runtime.devices, request.mesh.ranks
    if world > MAX_RANKS:
        yield Problem(f"{world} ranks", f"one host has at most {MAX_RANKS}", _fewer(request, MAX_RANKS))
    elif request.device == "cpu" and world > RANKS_PER_CORE * machine.cores:
        most = RANKS_PER_CORE * machine.cores
        rule = f"{machine.cores} core{'s' * (machine.cores > 1)} serve at most {most}"
        yield Problem(f"{world} ranks on a CPU", rule, _fewer(request, most))
    elif request.device == "cuda" and machine.gpus:
        available = len(chosen) if chosen is not None else len(machine.gpus)
        if request.config.cp.transport == "host":
            if world > (most := RANKS_PER_GPU * available):
                gpus = f"{available} GPU{'s serve' if available > 1 else ' serves'}"
                yield Problem(f"{world} ranks", f"{gpus} at most {most}", _fewer(request, most))
        elif world > available:
            rule = f"one GPU a rank, and {available} {'is' if available == 1 else 'are'} there"
            sharing = ", or cp.transport=host: ranks that share a GPU, slower than one"
            yield Problem(f"{world} ranks", rule, _fewer(request, available) + sharing)


def _fewer(request: Request, most: int) -> str:
    """What to type for so many ranks at most, in place of what was typed."""
    cp, mode = request.config.cp, MODES.get(request.mode)
    if most < 2:
        return "type cp=none"
    if cp.ring_degree is None and cp.ulysses_degree is None:
        return f"type runtime.processes={most} or less"
    if mode is None or mode.has_ring == mode.has_ulysses:
        return f"type degrees whose product is {most} or less"
    return f"type cp.{'ring' if mode.has_ring else 'ulysses'}_degree={most} or less"


def heads(request: Request) -> Iterator[Problem]:
    """Ulysses gives every rank the same number of heads; the "anything" modes do not need that."""
    count, degree, mode = request.config.model.heads, request.mesh.ulysses, MODES.get(request.mode)
    if mode is None or not mode.heads_divide or degree < 2 or not 1 <= count <= MAX_FACT or count % degree == 0:
        return
    legal = [divisor for divisor in divisors(count) if divisor > 1]
    rule = (
        f"{count} heads cannot be shared by {degree} ranks; legal degrees here: {', '.join(map(str, legal)) or 'none'}"
    )
    near = f"type cp.ulysses_degree={_closest(legal, degree)} or " if legal else "type "
    anything = mode.any_length(masked=request.config.model.mask)
    yield Problem(f"cp={mode.name}", rule, f"{near}cp={anything}")


def _closest(legal: list[int], wanted: int) -> int:
    return min(legal, key=lambda value: abs(value - wanted))


def streams_divide(request: Request) -> Iterator[Problem]:
    """ring, ulysses and unified cut every split stream into equal parts."""
    world, mode = request.mesh.sequence, MODES.get(request.mode)
    if mode is None or not mode.even or min(request.requested.height, request.requested.width) < 1:
        return
    if not 2 <= world <= MAX_RANKS:
        return  # named by modes and a_device_each
    anything = mode.any_length(masked=request.config.model.mask)
    texts_divide = request.texts is not None
    if request.texts is None:
        rule = (
            f"{world} ranks must share the text tokens equally, and how many {request.config.model.name} has follows "
        )
        rule += "from the prompt: not known before the start without its tokenizer.json"
        yield Problem(f"cp={request.mode}", rule, f"type cp={anything}")
    for length in request.texts or ():
        if length % world:
            texts_divide = False
            legal = [ranks for ranks in range(2, 2 * world + 1) if length % ranks == 0]
            rule = f"{world} ranks cannot share {length} text tokens equally"
            rule += f"; ranks that divide them: {', '.join(map(str, legal)) or 'none near'}"
            yield Problem(f"cp={request.mode}", rule, f"type cp={anything}")
    for name, length in request.streams.items():
        if name == "text" or length % world == 0:
            continue
        latents = f" in each of {request.latents} latents in time" if request.latents > 1 else ""
        rule = f"{world} ranks cannot share {length} {name} tokens equally ({request.rendered} pixels{latents})"
        sizes = sizes_that_divide(request.rendered, request.multiple, world, request.latents) if texts_divide else []
        near = choices(f"height={size.height}" for size in sizes)
        instead = f"type {near}, or cp={anything}" if near else f"type cp={anything}"
        yield Problem(f"cp={request.mode}", rule, instead)


SHARING: tuple[Rule, ...] = (processes, modes, transport, a_device_each, heads, streams_divide, masks)


def sharing_problems(request: Request) -> list[Problem]:
    """What is wrong with the way that ranks share the sequence."""
    return [problem for rule in SHARING for problem in rule(request)]
