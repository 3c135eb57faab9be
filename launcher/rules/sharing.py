"""How ranks share the sequence: tried for each mode of a plan's table too.

These rules are those of diffusers' `ContextParallelConfig` and of its dispatcher (0.42.1,
models/_modeling_parallel.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from attention_backends.catalog import MODES
from launcher.caches import NONE
from launcher.families import sources
from launcher.problems import Problem, choices
from launcher.request.geometry import divisors, sizes_that_divide
from launcher.request.request import MAX_RANKS, Request
from launcher.rules import shares, weights
from launcher.rules.numbers import MAX_FACT
from launcher.rules.rule import of, rule
from launcher.wording import plural

RANKS_PER_CORE = 8  # more ranks than that on a CPU only wait for each other
RANKS_PER_GPU = 8  # each holds all weights


@rule
def processes(request: Request) -> Iterator[Problem]:
    """The product of the degrees is the number of processes."""
    mesh, asked, mode = request.mesh, request.processes, MODES.get(request.mode)
    if mode is None or not mesh.whole or (asked is not None and asked < 1):
        return  # named by words and counts
    if not mode.parallel and (mesh.cfg == 1 or mesh.sequence > 1):
        given = {"cp.ring_degree": mesh.ring, "cp.ulysses_degree": mesh.ulysses, "runtime.processes": asked or 1}
        for key, number in given.items():
            if number > 1:
                parallel = "cp=ulysses_anything" if "ulysses" in key else "cp=ring_anything"
                what = f"cp={mode.name} runs in one process" if mesh.cfg == 1 else f"cp={mode.name} shares no sequence"
                yield Problem(f"{key}={number}", what, f"leave it out or type {parallel}")
    elif asked is not None and (mismatch := mesh.mismatch(asked)):
        instead = f"type runtime.processes={mesh.ranks} or leave it out"
        yield Problem(f"runtime.processes={asked}", f"must be the product of the degrees: {mismatch}", instead)


@rule
def guidance_parallel(request: Request) -> Iterator[Problem]:
    """Halves of the ranks need two branches of guidance, and a pipeline whose branches can be told apart."""
    model, degree = request.config.model, request.mesh.cfg
    if degree != 2:
        return  # 1, or named by counts
    value = "cp.cfg_degree=2"
    if not (model.guidance_cfg or model.arguments.true_cfg):
        yield Problem(value, f"{model.name} takes no classifier-free guidance to divide", "leave it out")
    elif request.negative_prompt is None:
        scale, number = ("guidance", model.guidance or 4) if model.guidance_cfg else ("model.true_cfg", 4)
        what = f"classifier-free guidance is off ({scale} is at most 1): there is nothing to divide"
        yield Problem(value, what, f"type {scale}={number:g}, or leave it out")
    elif model.guidance_branches is None:
        what = f"the two branches of {model.name}'s guidance can't be computed apart"
        yield Problem(value, what, "leave it out")


@rule
def modes(request: Request) -> Iterator[Problem]:
    """What each cp mode asks of its degrees, as diffusers' ContextParallelConfig does."""
    mode, ring, ulysses = MODES.get(request.mode), request.mesh.ring, request.mesh.ulysses
    if mode is None or not request.mesh.whole:
        return
    if request.config.cp.schedule != "auto" and not mode.scheduled:
        what = f"only modes with a ring have a schedule, and cp={mode.name} has none"
        yield Problem(f"cp.schedule={request.config.cp.schedule}", what, "leave it out")
    if not mode.parallel:
        return  # its degrees are named by processes
    axes = (("ring", ring, mode.ring, "a ring"), ("ulysses", ulysses, mode.ulysses, "Ulysses"))
    excluded = [(name, degree, what) for name, degree, takes, what in axes if takes == "one" and degree > 1]
    for name, degree, what in excluded:
        both = "unified" if mode.even else "unified_anything"
        instead = f"leave it out, or type cp={both} instead of cp={mode.name}"
        yield Problem(f"cp.{name}_degree={degree}", f"cp={mode.name} can't be combined with {what}", instead)
    short = [(name, degree) for name, degree, takes, _ in axes if takes == "many" and degree < 2]
    if mode.has_ring and mode.has_ulysses:
        for name, degree in short:
            what = f"cp={mode.name} needs both degrees to be at least 2 ({ring} x {ulysses} here)"
            other = "ulysses" if name == "ring" else "ring"
            yield Problem(f"cp.{name}_degree={degree}", what, f"type cp.{name}_degree=2 or cp={other}")
        if not short and request.mesh.sequence < 2:
            instead = "type cp.ring_degree=2, cp.ulysses_degree=2 or cp=none"
            yield Problem(f"cp={mode.name}", "needs at least 2 ranks", instead)
    elif not excluded:
        for name, degree in short:
            instead = f"type cp.{name}_degree=2 or cp=none"
            yield Problem(f"cp.{name}_degree={degree}", f"cp={mode.name} needs at least 2 ranks", instead)


@rule
def implementation(request: Request) -> Iterator[Problem]:
    """diffusers' own sharing, to compare with: the modes that it has, on the classes that it has a plan for."""
    cp, model, mode = request.config.cp, request.config.model, MODES.get(request.mode)
    if cp.implementation != "diffusers" or mode is None:
        return  # another word is named by words
    value, own = "cp.implementation=diffusers", "type cp.implementation=own"
    if not mode.parallel:
        yield Problem(value, f"cp={mode.name} shares no sequence", f"{own}, or cp=diffusers_ring")
        return
    if not mode.theirs:
        names = ", ".join(row.name for row in MODES.values() if row.theirs)
        yield Problem(value, f"diffusers has no {mode.name}; it has {names}", own)
    kind = sources.part_of(model.pipeline, next(iter(model.transformers), ""))
    if kind and sources.transformer(kind) and not sources.has_own_plan(kind):
        yield Problem(value, f"diffusers has no plan of what {kind} splits", own)
    if request.masked and mode.has_ring:
        why = request.why_masked("an attention mask")
        what = f"{why}, of which diffusers' {mode.name} applies one rank's to all"
        yield Problem(value, what, own if mode.masks else f"type cp={mode.any_length(masked=True)} in its place")
    if request.mesh.cfg > 1:
        yield Problem(value, "diffusers divides no guidance", "type cp.cfg_degree=1")
    if request.shares:
        yield Problem(value, "diffusers knows no unequal shares", "leave cp.shares out")
    if cp.transport == "host":
        yield Problem(value, "diffusers exchanges by nccl", "leave cp.transport out")
    if cp.schedule == "staged":
        yield Problem(value, "diffusers gathers all keys", "leave cp.schedule out")
    degree = request.mesh.ulysses
    if mode.name == "ulysses_anything" and degree > 1 and 1 <= model.heads <= MAX_FACT:
        added = -model.heads % degree
        if added and added >= (each := (model.heads + added) // degree):
            what = f"diffusers fills {model.heads} heads up to {degree} x {each} and takes at most {each - 1} more"
            yield Problem(value, what, own)


@rule
def transport(request: Request) -> Iterator[Problem]:
    """How CUDA tensors travel is a choice only where there are ranks with GPUs."""
    typed = request.config.cp.transport
    if typed in ("nccl", "host") and request.device == "cpu":
        yield Problem(f"cp.transport={typed}", "is how GPUs exchange, and this run uses none", "leave it out")
    elif typed in ("nccl", "host") and request.mesh.ranks == 1:
        yield Problem(f"cp.transport={typed}", "one process has nobody to send to", "leave it out")


@rule
def a_device_each(request: Request) -> Iterator[Problem]:
    """One GPU a rank, unless they exchange by host memory; a CPU has cores for its ranks."""
    machine, world = request.machine, request.mesh.ranks
    if world > MAX_RANKS:
        yield Problem(f"{world} ranks", f"one host runs at most {MAX_RANKS}", _ranks(request, MAX_RANKS))
    elif world % machine.nodes:
        more = machine.nodes * -(-world // machine.nodes)
        instead = f"type cp=ring_anything runtime.processes={more}" if world == 1 else _ranks(request, more, more="")
        yield Problem(plural(world, "rank"), f"does not divide among {machine.nodes} machines", instead)
    elif request.device == "cpu" and world > RANKS_PER_CORE * machine.nodes * machine.cores:
        most = RANKS_PER_CORE * machine.nodes * machine.cores
        what = f"{plural(machine.nodes * machine.cores, 'core')} can serve at most {most}"
        yield Problem(f"{world} ranks on a CPU", what, _ranks(request, most))
    elif request.device == "cuda" and machine.gpus:
        available = machine.nodes * len(request.usable)
        if request.config.cp.transport == "host":
            if world > (most := RANKS_PER_GPU * available):
                yield Problem(
                    f"{world} ranks", f"{plural(available, 'GPU')} can serve at most {most}", _ranks(request, most)
                )
        elif world > available:
            what = f"each rank needs its own GPU; available: {available}"
            sharing = ", or cp.transport=host, by which ranks share a GPU (slower than one rank)"
            yield Problem(f"{world} ranks", what, _ranks(request, available) + sharing)


def _ranks(request: Request, count: int, more: str = " or less") -> str:
    """What to type for so many ranks, in place of what was typed."""
    cp, mode = request.config.cp, MODES.get(request.mode)
    if count < 2:
        return "type cp=none"
    if cp.ring_degree is None and cp.ulysses_degree is None:
        return f"type runtime.processes={count}{more}"
    if mode is None or mode.has_ring == mode.has_ulysses:
        return f"type degrees whose product is {count}{more}"
    return f"type cp.{'ring' if mode.has_ring else 'ulysses'}_degree={count}{more}"


@rule
def heads(request: Request) -> Iterator[Problem]:
    """Ulysses gives every rank the same number of heads; the "anything" modes do not need that."""
    count, degree, mode = request.config.model.heads, request.mesh.ulysses, MODES.get(request.mode)
    if mode is None or not mode.heads_divide or degree < 2 or not 1 <= count <= MAX_FACT or count % degree == 0:
        return
    legal = [divisor for divisor in divisors(count) if divisor > 1]
    valid = ", ".join(map(str, legal)) or "none"
    what = f"{count} heads do not divide among {degree} ranks; valid degrees: {valid}"
    near = f"type cp.ulysses_degree={_closest(legal, degree)} or " if legal else "type "
    anything = mode.any_length(masked=request.masked)
    yield Problem(f"cp={mode.name}", what, f"{near}cp={anything}")


def _closest(legal: list[int], wanted: int) -> int:
    return min(legal, key=lambda value: abs(value - wanted))


@rule
def streams_divide(request: Request) -> Iterator[Problem]:
    """ring, ulysses and unified cut every split stream into equal parts."""
    world, mode = request.mesh.sequence, MODES.get(request.mode)
    if mode is None or not mode.even or min(request.requested.height, request.requested.width) < 1:
        return
    if not 2 <= world <= MAX_RANKS:
        return  # named by modes and a_device_each
    model = request.config.model
    anything = mode.any_length(masked=request.masked)
    if not request.counted:
        what = f"needs equal shares, and {model.name} splits tokens that can't be counted before the start"
        yield Problem(f"cp={request.mode}", what, f"type cp={anything}")
        return
    texts_divide = request.texts is not None
    if request.texts is None:
        name = request.config.model.name
        what = f"{name}'s text length depends on the prompt and can't be counted without its tokenizer"
        yield Problem(f"cp={request.mode}", what, f"type cp={anything}")
    for length in request.texts or ():
        if length % world:
            texts_divide = False
            legal = [ranks for ranks in range(2, 2 * world + 1) if length % ranks == 0]
            what = f"{length} text tokens do not divide among {world} ranks"
            what += f"; numbers of ranks that divide them: {', '.join(map(str, legal)) or 'none near'}"
            yield Problem(f"cp={request.mode}", what, f"type cp={anything}")
    for name, length in request.streams.items():
        if name == "text" or length % world == 0:
            continue
        latents = f" in each of {request.latents} latents in time" if request.latents > 1 else ""
        what = f"{length} {name} tokens do not divide among {world} ranks ({request.rendered} pixels{latents})"
        sizes = sizes_that_divide(request.rendered, request.multiple, world, request.latents) if texts_divide else []
        near = choices(f"height={size.height}" for size in sizes)
        instead = f"type {near}, or cp={anything}" if near else f"type cp={anything}"
        yield Problem(f"cp={request.mode}", what, instead)


@rule
def masks(request: Request) -> Iterator[Problem]:
    """A mask needs a mode that takes one."""
    mode = MODES.get(request.mode)
    if not request.masked or mode is None:
        return
    if not mode.masks:
        what = f"doesn't support attention masks, and {request.why_masked()}"
        same = f"type cp=unified_anything cp.ring_degree={request.mesh.ring} cp.ulysses_degree=1"
        yield Problem(f"cp={mode.name}", what, same if request.mesh.sequence > 1 else "type cp=none")


@rule
def a_plan(request: Request) -> Iterator[Problem]:
    """Ranks that share a sequence need to know what of the model is split."""
    mode, known = MODES.get(request.mode), request.inputs.checkpoint
    if mode is None or not mode.parallel or not known.planless:
        return
    what = f"the ranks need a plan of what they split, and there is none for {known.planless}"
    instead, beside = "type cp=none", ""
    if known.drafted:
        instead += (
            "; or complete this draft, save it as FOLDER/model/NAME.yaml, and type --config-dir FOLDER model=NAME"
        )
        beside = (
            f"{known.drafted}\n# python -m launcher check --config-dir FOLDER model=NAME tells whether it is right."
        )
    yield Problem(f"cp={mode.name}", what, instead, beside)


@rule
def cached(request: Request) -> Iterator[Problem]:
    """A cache needs to be asked alike of all that is computed."""
    name, model, mode = request.config.cache.name, request.config.model, MODES.get(request.mode)
    if name == NONE or mode is None:
        return
    if request.config.cp.implementation == "diffusers":
        ours = mode.any_length(masked=True) if request.masked and not mode.masks else mode.name
        instead = f"type cp={ours} in its place, or cache=none"
        yield Problem(f"cache={name}", "was not tested with diffusers' own context parallelism", instead)
    elif name == "first_block" and request.mesh.cfg == 2 and model.guidance_branches == "batch":
        what = "decides for both branches of guidance at once, which cp.cfg_degree=2 divides"
        yield Problem(f"cache={name}", what, "type cp.cfg_degree=1 or cache=none")


SHARING = (*of(__name__, shares.__name__), weights.sharded)


def sharing_problems(request: Request) -> list[Problem]:
    """What is wrong with the way that ranks share the sequence."""
    return [problem for rule in SHARING for problem in rule(request)]
