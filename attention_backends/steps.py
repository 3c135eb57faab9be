"""The benchmark's whole steps: what hides the wire, and how much of it, beside what it and the computation take.

Rows are measured, but for the column `by_model`: what cost.py says of the same case from speeds that were measured.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from attention_backends import cost, exchange, ulysses, workload
from attention_backends.layout import Layout, split_lengths
from attention_backends.ring import Ring, start
from attention_backends.schedule import measure
from attention_backends.topology import Topology
from attention_backends.ulysses import Trade

Table = list[dict[str, Any]]
COMPUTE, WIRE, BOTH = "limit: compute only", "limit: wire only", "limit: wire beside compute"
OPEN, HIDDEN = "nothing hidden", "wire hidden"


def timed(call: Callable[[], Any], group: dist.ProcessGroup, device: torch.device) -> float:
    """Milliseconds of the slowest rank, from a common start."""
    dist.barrier(group)
    begin = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    spent = torch.tensor([time.perf_counter() - begin])
    dist.all_reduce(spent, op=dist.ReduceOp.MAX, group=group)
    return spent.item() * 1e3


Wait = Callable[[], Any]


def wires(topology: Topology, layout: Layout, qkv: list[torch.Tensor]) -> dict[str, Callable[[], Wait]]:
    """What posts the messages of one layer, by the degree that sends them; what each gives waits for them."""
    world = len(layout.lengths)
    ring, row = (Topology(topology.group, topology.rank, *degrees) for degrees in ((world, 1), (1, world)))
    heads = row.heads(qkv[0].shape[2])
    inward, outward = Trade((heads,) * 3, (layout,) * 3, row), Trade((heads,), (layout,), row)
    begin, end = heads[row.ulysses_index]
    attended = qkv[0].new_zeros((1, layout.total, end - begin, qkv[0].shape[3]))

    def around() -> Wait:
        return start(Ring(layout, layout, topology=ring), qkv[1], qkv[2]).wait

    def trade() -> Wait:
        waits = ulysses.start(inward, qkv), ulysses.Back(outward, [attended]).joined
        return lambda: [wait() for wait in waits]

    return {"ring": around, "ulysses": trade}


def by_itself(post: Callable[[], Wait], layers: int) -> None:
    """The messages of a step with nothing to compute, a layer's after those of the one before it have arrived."""
    for _ in range(layers):
        post()()


def beside(model: torch.nn.Module, step: Wait, post: Callable[[], Wait], world: int) -> None:
    """A step of all tokens on each rank while as many steps' messages travel, on which nothing depends."""
    waits: list[Wait] = []
    blocks = [block for name in ("transformer_blocks", "single_transformer_blocks") for block in getattr(model, name)]
    hooks = [block.register_forward_pre_hook(lambda *_: waits.extend(post() for _ in range(world))) for block in blocks]
    step()
    for hook in hooks:
        hook.remove()
    for wait in waits:
        wait()


def by_model(table: Table, arguments: argparse.Namespace, layout: Layout, speeds: workload.Speeds) -> None:
    """Add what cost.py says: the measured computation, and what it finds beside it for the wire."""
    double, size = doubles(arguments), torch.empty(0, dtype=getattr(torch, arguments.dtype)).element_size()
    world, square = len(layout.lengths), 2.0 * arguments.hidden**2
    fast = replace(speeds, latency=0.0, bandwidth=1e18, launch=0.0)
    compute = next(entry["ms_median"] for entry in table if entry["row"].startswith(COMPUTE))
    for entry in table:
        way, _, told = entry["row"].partition(", ")
        if told not in (OPEN, HIDDEN):
            continue
        beside = 0.0
        for count, one_stream in ((double, False), (arguments.layers - double, True)):
            mlp = 4 * square if one_stream else 0.0
            hidden = workload.Meanwhile(square, mlp, mlp) if told == HIDDEN else workload.NOTHING
            shape = workload.Shape(arguments.hidden // 64, 64, element_size=size)
            degrees = (world, 1) if way == "ring" else (1, world)
            one = workload.Attention(layout, layout, shape, *degrees, meanwhile=hidden)
            if way == "ring":
                chosen = cost.cheapest(one.route, shape, [speeds] * world, hidden.total)
                one = replace(one, schedule=chosen)
            alone = replace(one, schedule="gather", meanwhile=workload.NOTHING)
            beside += count * (cost.seconds(one, [speeds] * world) - cost.seconds(alone, [fast] * world))
        entry["by_model"] = compute + beside * 1e3


def doubles(arguments: argparse.Namespace) -> int:
    """Layers of two streams."""
    told: int | None = arguments.double
    return int(arguments.layers) // 3 if told is None else told


def step_table(
    arguments: argparse.Namespace, group: dist.ProcessGroup, device: torch.device
) -> tuple[Table, dict[str, str]]:
    """One denoising step of a FLUX: all ranks together, then rank 0 alone with the others idle.

    to_compute: the time as a multiple of the ranks' equal shares of what one rank takes alone. to_limit: of the larger
    one of what all ranks need for their shares when all compute at once, and of the wire. "Beside" is a limit of
    its own: a CPU computes less while it carries its wire. hidden: how much of the wire's own time the overlap takes
    off, and in that limit's row how much could be taken off at all. by_model: ms, of cost.py.
    """
    from diffusers import FluxTransformer2DModel

    from attention_backends import disable, enable

    torch.manual_seed(0)
    double = doubles(arguments)
    model = FluxTransformer2DModel(
        in_channels=64,
        num_layers=double,
        num_single_layers=arguments.layers - double,
        attention_head_dim=64,
        num_attention_heads=arguments.hidden // 64,
        joint_attention_dim=256,
        pooled_projection_dim=64,
        axes_dims_rope=(8, 28, 28),
    ).to(device, getattr(torch, arguments.dtype))
    image, text = arguments.tokens - arguments.text, arguments.text
    inputs = {
        "hidden_states": torch.randn(1, image, 64),
        "encoder_hidden_states": torch.randn(1, text, 256),
        "pooled_projections": torch.randn(1, 64),
        "timestep": torch.full((1,), 0.5),
        "img_ids": torch.zeros(image, 3),
        "txt_ids": torch.zeros(text, 3),
    }
    inputs = {name: x.to(device, getattr(torch, arguments.dtype)) for name, x in inputs.items()}
    world = dist.get_world_size(group)
    shape = {"heads": arguments.hidden // 64, "head_dim": 64, "dtype": inputs["hidden_states"].dtype, "device": device}
    speeds = measure(group, **shape)
    ring: dict[str, Any] = {"ring_degree": world, "ring_anything": True, "speeds": speeds}
    row: dict[str, Any] = {"ulysses_degree": world, "ulysses_anything": True, "speeds": speeds}
    ways = {
        f"{name}, {told}": {**way, "overlap": overlap}
        for name, way in (("ring", ring), ("ulysses", row))
        for told, overlap in ((OPEN, False), (HIDDEN, True))
    }
    alone: list[float] = []
    at_once: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in ways}
    layout = Layout(split_lengths(arguments.tokens, world))
    part = torch.randn(1, layout.lengths[dist.get_rank(group)], shape["heads"], 64, device=device, dtype=shape["dtype"])
    limits = wires(Topology(group, dist.get_rank(group), world, 1), layout, [part] * 3)
    wire: dict[str, list[float]] = {name: [] for name in limits}
    both: dict[str, list[float]] = {name: [] for name in limits}

    def step() -> Any:
        return model(**inputs, return_dict=False)[0]

    def first_only() -> Any:
        return step() if dist.get_rank(group) == 0 else None

    results: dict[str, dict[str, Any]] = {}
    with torch.no_grad():
        exact = step()
        for name, way in ways.items():  # warm up, check, count
            enable(model, **way)
            exchange.reset_counters()
            error = float((step() - exact).abs().max())
            disable(model)
            results[name] = {"row": name, "ranks": world, "error": error, **exchange.counters().asdict()}
        for _ in range(max(arguments.turns // 4, 3)):
            for name, way in ways.items():
                enable(model, **way)
                times[name].append(timed(step, group, device))
                disable(model)
            alone.append(timed(first_only, group, device))
            at_once.append(timed(step, group, device) / world)
            for name, post in limits.items():
                wire[name].append(timed(partial(by_itself, post, arguments.layers), group, device))
                both[name].append(timed(partial(beside, model, step, post, world), group, device) / world)
    one, compute = statistics.median(alone), statistics.median(at_once)
    table = [
        {"row": "one rank", "ranks": 1, "ms_median": one, "ms_min": min(alone)},
        {"row": f"{COMPUTE}, its part of a step of each at once", "ms_median": compute, "ms_min": min(at_once)},
        *(
            {"row": f"{limit}, {name}", "ms_median": statistics.median(them), "ms_min": min(them)}
            for limit, found in ((WIRE, wire), (BOTH, both))
            for name, them in found.items()
        ),
        *(
            {**entry, "ms_median": statistics.median(times[name]), "ms_min": min(times[name])}
            for name, entry in results.items()
        ),
    ]
    find = {entry["row"]: entry["ms_median"] for entry in table}
    for entry in table:
        entry["to_compute"] = entry["ms_median"] * (1 if entry is table[0] else world) / one
        way, _, told = entry["row"].partition(", ")
        if way in limits:
            entry["to_limit"] = entry["ms_median"] / max(compute, find[f"{WIRE}, {way}"])
        hidden = way if told == HIDDEN else told if way == BOTH else None
        if hidden in limits:
            entry["hidden"] = (find[f"{hidden}, {OPEN}"] - entry["ms_median"]) / find[f"{WIRE}, {hidden}"]
    by_model(table, arguments, layout, speeds)
    return table, {}
