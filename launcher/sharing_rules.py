"""Rules on how ranks share the sequence: tried for each mode of a plan's table. See rules.py for the others.

They are those of diffusers' `ContextParallelConfig` and of its dispatcher (0.42.1, models/_modeling_parallel.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attention_backends.catalog import MODES as BACKEND_MODES
from launcher.geometry import divisors, sizes_that_divide
from launcher.model_rules import masks
from launcher.problems import Problem, choices
from launcher.request import EVEN_MODES, MAX_RANKS, MODES, Request

Rule = Callable[[Request], Iterator[Problem]]

MAX_FACT = 1 << 16  # of a model's counts
RANKS_PER_CORE = 8  # more ranks than that on a CPU only wait for each other
RANKS_PER_GPU = 8  # each holds all weights


def processes(request: Request) -> Iterator[Problem]:
    """The degrees are whole ranks, and their product is the number of processes."""
    ring, ulysses, world = request.ring_degree, request.ulysses_degree, request.processes
    if min(ring, ulysses, world) < 1:
        return  # named by counts
    if request.mode == "none":
        for key, number in (("cp.ring_degree", ring), ("cp.ulysses_degree", ulysses), ("runtime.processes", world)):
            if number > 1:
                yield Problem(
                    f"{key}={number}", "cp=none runs in one process", f"leave it out or type {_parallel(key)}"
                )
        return
    if request.mode in MODES and ring * ulysses != world:
        formula = f"ring_degree {ring} x ulysses_degree {ulysses} = {ring * ulysses} ranks, not {world}"
        instead = f"type runtime.processes={ring * ulysses} or leave it out"
        yield Problem(f"runtime.processes={world}", f"must be the product of the degrees: {formula}", instead)


def _parallel(key: str) -> str:
    return "cp=ulysses_anything" if "ulysses" in key else "cp=ring_anything"


def modes(request: Request) -> Iterator[Problem]:
    """What each cp mode asks of its degrees, as diffusers' ContextParallelConfig does."""
    mode, ring, ulysses = request.mode, request.ring_degree, request.ulysses_degree
    if min(ring, ulysses) < 1:
        return
    if mode in ("ring", "ring_anything"):
        if ulysses > 1:
            yield Problem(f"cp.ulysses_degree={ulysses}", f"cp={mode} excludes Ulysses", _instead_of_both(mode))
        elif ring < 2:
            yield Problem(
                f"cp.ring_degree={ring}", f"cp={mode} needs 2 ranks or more", "type cp.ring_degree=2 or cp=none"
            )
    elif mode in ("ulysses", "ulysses_anything"):
        if ring > 1:
            yield Problem(f"cp.ring_degree={ring}", f"cp={mode} excludes a ring", _instead_of_both(mode))
        elif ulysses < 2:
            instead = "type cp.ulysses_degree=2 or cp=none"
            yield Problem(f"cp.ulysses_degree={ulysses}", f"cp={mode} needs 2 ranks or more", instead)
    elif mode == "unified":
        for key, degree, other in (("ring_degree", ring, "ulysses"), ("ulysses_degree", ulysses, "ring")):
            if degree < 2:
                rule = f"cp=unified combines both, each with 2 ranks or more ({ring} x {ulysses} here)"
                yield Problem(f"cp.{key}={degree}", rule, f"type cp.{key}=2 or cp={other}")
    elif mode == "unified_anything" and ring * ulysses < 2:
        instead = "type cp.ring_degree=2, cp.ulysses_degree=2 or cp=none"
        yield Problem("cp=unified_anything", "needs 2 ranks or more", instead)
    if request.config.cp.schedule != "auto" and not (mode in BACKEND_MODES and BACKEND_MODES[mode].lse):
        rule = f"only modes with a ring have schedules, and this is cp={mode}"
        yield Problem(f"cp.schedule={request.config.cp.schedule}", rule, "leave it out")


def _instead_of_both(mode: str) -> str:
    both = "unified_anything" if mode.endswith("_anything") else "unified"
    return f"leave it out, or type cp={both} instead of cp={mode}"


def transport(request: Request) -> Iterator[Problem]:
    """How CUDA tensors travel is a choice only where there are ranks with GPUs."""
    typed = request.config.cp.transport
    if typed in ("nccl", "host") and request.device == "cpu":
        yield Problem(f"cp.transport={typed}", "is how GPUs exchange, and this run uses none", "leave it out")
    elif typed in ("nccl", "host") and request.processes == 1:
        yield Problem(f"cp.transport={typed}", "one process has nobody to send to", "leave it out")


def a_device_each(request: Request) -> Iterator[Problem]:
    """One GPU a rank, unless they exchange by host memory; a CPU has cores for its ranks."""
    machine, chosen, world = request.machine, request.config.runtime.devices, request.processes
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
    cp, mode = request.config.cp, request.mode
    if most < 2:
        return "type cp=none"
    if cp.ring_degree is None and cp.ulysses_degree is None:
        return f"type runtime.processes={most} or less"
    if mode.startswith("unified"):
        return f"type degrees whose product is {most} or less"
    return f"type cp.{'ulysses' if mode.startswith('ulysses') else 'ring'}_degree={most} or less"


def heads(request: Request) -> Iterator[Problem]:
    """Ulysses gives every rank the same number of heads; the "anything" modes do not need that."""
    count, degree = request.config.model.heads, request.ulysses_degree
    if degree < 2 or not 1 <= count <= MAX_FACT or request.mode not in ("ulysses", "unified") or count % degree == 0:
        return
    legal = [divisor for divisor in divisors(count) if divisor > 1]
    rule = (
        f"{count} heads cannot be shared by {degree} ranks; legal degrees here: {', '.join(map(str, legal)) or 'none'}"
    )
    near = f"type cp.ulysses_degree={_closest(legal, degree)} or " if legal else "type "
    yield Problem(f"cp={request.mode}", rule, f"{near}cp={_anything(request)}")


def _anything(request: Request) -> str:
    """The mode that does the same for any length and any number of heads, and takes the model's mask."""
    modes = {"ring": "ring_anything", "ulysses": "ulysses_anything"}
    name = modes.get(request.mode, "unified_anything")
    return name if BACKEND_MODES[name].masks or not request.config.model.mask else "unified_anything"


def _closest(legal: list[int], wanted: int) -> int:
    return min(legal, key=lambda value: abs(value - wanted))


def streams_divide(request: Request) -> Iterator[Problem]:
    """ring, ulysses and unified cut every split stream into equal parts."""
    world = request.processes
    if request.mode not in EVEN_MODES or world < 2 or min(request.requested.height, request.requested.width) < 1:
        return
    anything = _anything(request)
    if world > MAX_RANKS:
        return  # named by a_device_each
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
