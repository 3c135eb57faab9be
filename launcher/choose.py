"""Every way to share a request between its devices: what each moves, and about how long a step takes.

cp=auto and cp.schedule=auto are decided here by stated figures, never by measuring: the same request on the same
machine is always run in the same way, and so makes the same picture to the bit.

A step is reckoned as L layers, each of one attention (attention_backends/cost.py) and of linear maps, whose FLOPs a
token are 24 d^2 with d = H D: 4 d^2 weights of the projections and 8 d^2 of an MLP four times as wide, two FLOPs each.
For FLUX.1-dev at 1024 x 1024 that is 59.5 + 14.9 = 74.4 TFLOP. All of it is an estimate and is called one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from attention_backends import cost
from attention_backends.catalog import KERNELS
from attention_backends.catalog import MODES as BACKEND_MODES
from attention_backends.layout import Layout, Route
from launcher.config import LaunchConfig
from launcher.machine import Machine
from launcher.problems import Problem
from launcher.request import MAX_RANKS, MODES, Request, fill_in, shared
from launcher.sharing_rules import sharing_problems

BY_HOST = 500e-6, 1e9  # s a message and bytes/s of cp.transport=host: an estimate
ELEMENT_SIZE = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Way:
    """One way to share the sequence.

    Args:
        problems: why it is illegal; the figures are 0 then.
        layer_bytes: what the rank that sends most sends in the attention of one layer; step_bytes: in all of a step.
        seconds: of a step, an estimate.
    """

    request: Request
    problems: tuple[Problem, ...]
    layer_bytes: int = 0
    step_bytes: int = 0
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The mode with its degrees, as far as they say something."""
        request = self.request
        both = request.mode.startswith("unified")
        return request.mode + (f" {request.ring_degree} x {request.ulysses_degree}" if both else "")


def resolve(config: LaunchConfig, here: Machine) -> Request:
    """A request with everything that was left out filled in; what is illegal stays as it is, for the rules to name."""
    request = fill_in(config, here)
    if request.mode == "auto":
        return _fastest(request)
    return scheduled(request)


def ways(request: Request) -> list[Way]:
    """Every mode on as many devices as the request uses (if it uses one: on all there are), its own as asked for."""
    auto = request.config.cp.mode == "auto"
    world = request.processes if request.processes > 1 else None
    found = []
    for mode in MODES:
        if mode == request.mode:
            found.append(way(request))
        elif auto:
            found.append(way(_as_typed(request, mode)))
        else:
            found.append(way(scheduled(shared(request, mode, None, None, None if mode == "none" else world))))
    return found


def _as_typed(request: Request, mode: str) -> Request:
    """The request in this mode, with the degrees and processes that were typed."""
    cp = request.config.cp
    return scheduled(shared(request, mode, cp.ring_degree, cp.ulysses_degree, request.config.runtime.processes))


def _fastest(request: Request) -> Request:
    """cp=auto: the legal way of the least estimated time; if none is legal, the one with the fewest problems."""
    found = [way(_as_typed(request, mode)) for mode in MODES]
    best, *others = sorted(found, key=lambda one: (len(one.problems), one.seconds))
    if best.problems:
        return best.request
    told = [f"{one.name} {duration(one.seconds)}" for one in others if not one.problems]
    why = f"{best.name} is the fastest legal mode, about {duration(best.seconds)} a step"
    why += f" (then {', '.join(told[:3])})" if told else ", the only one"
    return replace(best.request, why=why)


def scheduled(request: Request) -> Request:
    """The request with its schedule decided, if its mode has one: the cheaper one by the machine's figures."""
    typed = request.config.cp.schedule
    if request.mode not in BACKEND_MODES or not BACKEND_MODES[request.mode].lse:
        return replace(request, schedule="")
    if typed != "auto":
        return replace(request, schedule=typed)
    kernel = KERNELS.get(request.config.attention.kernel)
    request = replace(request, schedule="gather")
    if request.ring_degree < 2 or kernel is None or not kernel.lse or not countable(request):
        return request
    degree, shape, largest = request.ulysses_degree, attention_shape(request), attentions(request)[0]
    route = Route(largest.queries.rows(degree), largest.keys.rows(degree))
    shape = replace(shape, heads=-(-shape.heads // degree))
    return replace(request, schedule=cost.cheapest(route, shape, rank_speeds(request)))


def way(request: Request) -> Way:
    """This way with its figures, if it is legal."""
    problems = tuple(sharing_problems(request))
    if problems or not countable(request):
        return Way(request, problems)
    shape, speeds, layers = attention_shape(request), rank_speeds(request), request.config.model.layers
    ring, ulysses, schedule = request.ring_degree, request.ulysses_degree, request.schedule or "gather"
    sent, seconds = [0] * request.processes, 0.0
    for one in attentions(request):
        moved = cost.sent(
            one.queries,
            one.keys,
            shape,
            ring_degree=ring,
            ulysses_degree=ulysses,
            schedule=schedule,
            key_mask=one.key_mask,
            mask_per_head=True,
        )
        sent = [before + each.bytes for before, each in zip(sent, moved, strict=True)]
        seconds += cost.seconds(
            one.queries, one.keys, shape, speeds, ring_degree=ring, ulysses_degree=ulysses, schedule=schedule
        )
    tokens = max(sum(held.values()) for held in request.tokens_per_rank)
    seconds += tokens * linear_flops(request) / speeds.compute
    calls = request.passes * layers
    return Way(request, problems, max(sent), calls * max(sent), calls * seconds)


def countable(request: Request) -> bool:
    """Whether the figures are such that they can be reckoned with; where not, rules say what is wrong."""
    model = request.config.model
    numbers = [model.heads, model.head_dim, model.layers, *request.streams.values()]
    whole = min(request.ring_degree, request.ulysses_degree) >= 1
    whole = whole and request.ring_degree * request.ulysses_degree == request.processes <= MAX_RANKS
    return whole and all(1 <= number < 1 << 62 for number in numbers)


@dataclass(frozen=True)
class Attention:
    """One attention of a layer: tokens of each rank, and bytes of a mask for each key and head."""

    queries: Layout
    keys: Layout
    key_mask: int = 0


def attentions(request: Request) -> list[Attention]:
    """What is attended to over ranks in a layer: all streams in one sequence, or the text by itself after the rest.

    Text that every rank holds whole moves nowhere and is left out. A mask is expanded to all heads and in the model's
    dtype (LTX).
    """
    held, model = request.tokens_per_rank, request.config.model
    text = Layout(tuple(rank.get("text", 0) for rank in held))
    drawn = Layout(tuple(sum(rank.values()) - own for rank, own in zip(held, text.lengths, strict=True)))
    if model.cross_attention:
        mask = ELEMENT_SIZE.get(request.dtype, 4) if model.mask else 0
        return [Attention(drawn, drawn), *([Attention(drawn, text, mask)] if text.total else [])]
    both = Layout(tuple(sum(rank.values()) for rank in held))
    return [Attention(both, both)]


def attention_shape(request: Request) -> cost.Shape:
    """Heads, channels and bytes of one attention."""
    model = request.config.model
    return cost.Shape(model.heads, model.head_dim, element_size=ELEMENT_SIZE.get(request.dtype, 4))


def linear_flops(request: Request) -> int:
    """FLOPs of the linear maps of a layer, a token; a cross-attention adds its query's and its output's."""
    model = request.config.model
    return (28 if model.cross_attention else 24) * (model.heads * model.head_dim) ** 2


def rank_speeds(request: Request) -> cost.Speeds:
    """What one rank reaches: a GPU, or its share of the cores."""
    speeds = request.machine.speeds(request.device, request.devices)
    tflops = speeds.tflops_float32 if request.dtype == "float32" else speeds.tflops
    cores = min(max(1, request.threads), request.machine.cores / request.processes) if request.device == "cpu" else 1
    latency, bandwidth = speeds.link_us / 1e6, speeds.link_gbps * 1e9
    if request.device == "cuda" and request.config.cp.transport == "host":
        latency, bandwidth = BY_HOST
    shared = request.ranks_per_device
    return cost.Speeds(
        latency=latency,
        bandwidth=bandwidth,
        compute=tflops * 1e12 * speeds.efficiency * cores / shared,
        memory=speeds.memory_gbps * 1e9 / shared,
    )


def duration(seconds: float) -> str:
    """Three digits and a unit: 18.4 ms, 2.31 s."""
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"
