"""Every way to share a request between its devices: what each moves, and about how long a step takes.

cp=auto and cp.schedule=auto are decided here by stated figures, never by measuring: the same request on the same
machine is always run in the same way, and so makes the same picture to the bit.

A step is L layers, each of one attention (attention_backends/cost.py) and of linear maps, which take 24 d^2 FLOPs a
token with d = H D: 4 d^2 weights of the projections and 8 d^2 of an MLP four times as wide, two FLOPs each. What of
these maps runs while keys travel, or tokens are traded for heads, hides that (kinds in attentions.py).
For FLUX.1-dev at 1024 x 1024 that is 59.5 + 14.9 = 74.4 TFLOP. All of it is an estimate and is called one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from attention_backends import cost, prices, workload
from attention_backends.catalog import KERNELS, MODES
from launcher.config.schema import LaunchConfig
from launcher.estimates import transfers
from launcher.estimates.attentions import ELEMENT_SIZE, attentions, countable, kinds
from launcher.estimates.memory import GIB, emptied, lacking, within_memory
from launcher.estimates.savings import refused, roomier
from launcher.estimates.weights import sharded_bytes, with_weights
from launcher.machines import Machine, insisted
from launcher.request.fill_in import fill_in, shared
from launcher.request.inputs import Inputs, read
from launcher.request.request import Request
from launcher.request.speeds import rank_speeds
from launcher.request.way import Way
from launcher.rules.sharing import sharing_problems


def resolve(config: LaunchConfig, here: Machine, groups: int = 1) -> Request:
    """Read what the configuration names, once, and fill in everything that was left out.

    What is illegal stays as it is, for the rules to name. Of several groups that share the machine the request is that
    of the first one.
    """
    return resolved(config, read(config), insisted(here, config.runtime.device), groups)


def resolved(config: LaunchConfig, inputs: Inputs, here: Machine, groups: int = 1) -> Request:
    """The same from inputs that were read before: a pure function."""
    request = as_typed(config, inputs, here, groups)
    return roomier(request, lambda changed: as_typed(changed, inputs, here, groups))


def as_typed(config: LaunchConfig, inputs: Inputs, here: Machine, groups: int = 1) -> Request:
    """The same, whatever memory=auto would take."""
    request = fill_in(config, inputs, here, groups)
    return _fastest(request) if request.mode == "auto" else scheduled(request)


def priced(request: Request) -> tuple[Way, ...]:
    """Every mode on as many devices as the request uses (if it uses one: on all there are), its own as asked for.

    Where there is guidance to divide, each mode once more with half of the ranks for each branch. cp=auto has had to
    price them all; then that table is taken.
    """
    if request.ways:
        return request.ways
    world = request.mesh.ranks if request.mesh.ranks > 1 else None
    found = []
    for mode, cfg in itertools.product(MODES.values(), _cfg_degrees(request)):
        own = (mode.name, cfg) == (request.mode, request.mesh.cfg)
        one = shared(request, mode.name, None, None, world if mode.parallel else None, cfg)
        if own or _worth(one):
            found.append(way(request if own else scheduled(one)))
    return tuple(found)


def _worth(request: Request) -> bool:
    """Whether a way may stand in the table: halves of guidance that have one rank each share no sequence."""
    mode, mesh = MODES[request.mode], request.mesh
    return mesh.cfg == 1 or request.config.cp.cfg_degree is not None or mesh.sequence > 1 or not mode.parallel


def _cfg_degrees(request: Request) -> list[int]:
    """How many parts guidance may be divided into: the degree that was typed, and 1 and 2 where nothing is."""
    typed, model = request.config.cp.cfg_degree, request.config.model
    if typed is not None:
        return [typed]
    return [1, 2] if request.passes == 2 and model.guidance_branches is not None else [1]


def _fastest(request: Request) -> Request:
    """cp=auto: the legal way of the least estimated time; if none is legal, the one with the fewest problems."""
    order = _ordered(request)
    whole = [one for one in order if not one[1].problems]
    if not whole:
        return order[0][0]
    parts = _in_parts(request, whole)
    (chosen, best), *others = parts or whole
    fastest = "with sharded weights is the fastest mode that fits" if parts else "is the fastest legal mode"
    told = [f"{one.name} {duration(one.seconds)}" for _, one in others]
    why = f"{best.name} {fastest}, at about {duration(best.seconds)} a step"
    why += f" (then {', '.join(told[:3])})" if told else ", the only one"
    if parts:
        (rank, need, there), *_ = min((lacking(emptied(one)) for one, _ in whole), key=lambda short: short[0][1].total)
        least = f"at least {need.total / GIB:.1f} GiB on rank {rank}, of {there:.1f}"
        why += f"; where each rank holds all weights, no mode fits ({least})"
    return replace(chosen, why=why)


def _ordered(request: Request) -> list[tuple[Request, Way]]:
    """The request in every mode and with guidance divided or not, the best first: those with problems come last."""
    cp, processes = request.config.cp, request.config.runtime.processes
    typed = [
        scheduled(shared(request, mode, cp.ring_degree, cp.ulysses_degree, processes, cfg))
        for mode, cfg in itertools.product(MODES, _cfg_degrees(request))
    ]
    typed = [each for each in typed if _worth(each)]
    table = tuple(way(each) for each in typed)
    wanted = cp.shares is not None  # so what keeps ranks from sharing a sequence is told first

    def place(number: int) -> tuple[int, bool, float]:
        one = table[number]
        return len(one.problems), wanted and not MODES[one.mode].parallel, one.seconds

    return [(replace(typed[number], ways=table), table[number]) for number in sorted(range(len(table)), key=place)]


def _in_parts(request: Request, whole: list[tuple[Request, Way]]) -> list[tuple[Request, Way]]:
    """runtime.weights=auto: the legal ways that fit with sharded weights, where none fits with replicated ones.

    What is free on a device changes with what else runs, so all of its memory counts: the same line on the same machine
    runs in the same way.
    """
    if request.config.runtime.weights != "auto" or any(not lacking(emptied(one)) for one, _ in whole):
        return []
    known = refused(whole[0][0])
    parts = [(one, its) for one, its in _ordered(with_weights(request, "sharded")) if not its.problems]
    return [(one, its) for one, its in parts if not lacking(emptied(one)) and refused(one) <= known]


def scheduled(request: Request) -> Request:
    """The request with its schedule decided, if its mode has one: the cheaper one by the machine's figures."""
    request = within_memory(request)
    typed, mode = request.config.cp.schedule, MODES.get(request.mode)
    if mode is None or not mode.scheduled:
        return replace(request, schedule="")
    if typed != "auto":
        return replace(request, schedule=typed)
    kernel = KERNELS.get(request.config.attention.kernel)
    request = replace(request, schedule="gather")
    if request.mesh.ring < 2 or kernel is None or not kernel.lse or not countable(request):
        return request
    speeds = rank_speeds(request)
    gather, staged = (layers_seconds(replace(request, schedule=name), speeds) for name in ("gather", "staged"))
    return replace(request, schedule="staged" if staged < cost.MARGIN * gather else "gather")


def way(request: Request) -> Way:
    """The way that the request takes, with its figures if it is legal."""
    problems = tuple(sharing_problems(request))
    if problems or not countable(request):
        return Way(request.mode, request.mesh, request.schedule, problems)
    speeds, price = rank_speeds(request), prices.price(MODES[request.mode])
    sent = [0] * request.mesh.sequence
    for one in attentions(request):
        sent = [before + each.bytes for before, each in zip(sent, price.sent(one), strict=True)]
    model, seconds = request.config.model, max(device_seconds(request, speeds), host_seconds(request, speeds[0]))
    branch, link = result_bytes(request) if request.mesh.cfg > 1 else 0, speeds[0]
    calls = -(-request.passes // request.mesh.cfg)
    return Way(
        mode=request.mode,
        mesh=request.mesh,
        schedule=request.schedule,
        layer_bytes=max(sent),
        step_bytes=calls * model.layers * max(sent) + branch + request.passes * _others(request),
        seconds=transfers.beside(request, _beside_weights(request, calls * seconds, link))
        + (link.wire(branch, 1) if branch else 0.0),
    )


def layers_seconds(request: Request, speeds: Sequence[workload.Speeds]) -> float:
    """Of the attentions of all layers in one call of the transformer, beside the work that runs meanwhile."""
    price, total = prices.price(MODES[request.mode]), 0.0
    for count, meanwhile in kinds(request):
        for one in attentions(request, meanwhile):
            late = meanwhile != workload.NOTHING and cost.puts_off(one, speeds[0])
            total += count * price.seconds(one if late else replace(one, meanwhile=workload.NOTHING), speeds)
    return total


def device_seconds(request: Request, speeds: Sequence[workload.Speeds]) -> float:
    """Of the slowest rank, to compute one call of the transformer and to wait for the others'."""
    tokens = [sum(held.values()) for held in request.tokens_per_rank]
    linear = max(count / own.compute for count, own in zip(tokens, speeds, strict=True)) * linear_flops(request)
    return layers_seconds(request, speeds) + request.config.model.layers * linear * request.batch


def host_seconds(request: Request, own: workload.Speeds) -> float:
    """Of the host, to launch one call of the transformer; compiled blocks took an H100's no less (gpu.json)."""
    return request.config.model.layers * cost.host_seconds(attentions(request)[0], own)


def _others(request: Request) -> int:
    """Bytes of sharded weights that come to a rank in a call of the transformer; as many leave it."""
    if request.weights != "sharded" or request.mesh.ranks < 2:
        return 0
    return sharded_bytes(request) * (request.mesh.ranks - 1) // request.mesh.ranks


def _beside_weights(request: Request, seconds: float, link: workload.Speeds) -> float:
    """A step's seconds with its weights on their way: each block's while the one before computes, but for the first."""
    layers = max(1, request.config.model.layers)
    wire = link.wire(_others(request), layers) if _others(request) else 0.0
    calls = request.passes
    return max(seconds, calls * wire) + calls * wire / layers


def result_bytes(request: Request) -> int:
    """Bytes of what a transformer predicts for one branch of guidance: what its halves exchange in a step, each way."""
    model, scale = request.config.model, max(1, request.config.model.vae_scale)
    latents = request.latents * (request.rendered.height // scale) * (request.rendered.width // scale)
    return request.batch * latents * model.latent_channels * ELEMENT_SIZE.get(request.dtype, 4)


def linear_flops(request: Request) -> int:
    """FLOPs of the linear maps of a layer, a token; a cross-attention adds its query's and its output's."""
    model = request.config.model
    return (28 if model.cross_attention else 24) * (model.heads * model.head_dim) ** 2


def count(number: float) -> str:
    """Three digits: 1,230, 45.6."""
    return f"{float(f'{number:.3g}'):,.10g}"


def duration(seconds: float) -> str:
    """Three digits and a unit: 18.4 ms, 2.31 s."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"
