"""A plan as the screen shows it: what is rendered, sent and held, and every mode beside the chosen one."""

from __future__ import annotations

import textwrap

from launcher.cli.screen import in_bytes, loading, noted, rows, rows_of
from launcher.estimates.plan import Plan, Row
from launcher.estimates.transfers import Travelling
from launcher.estimates.ways import count, duration
from launcher.request.request import Request
from launcher.wording import plural

WIDTH = 116  # columns of the page


def page(plan: Plan, request: Request, starts: str) -> str:
    """The plan for the screen; `starts` is the command that a run would start its ranks with."""
    shown = {"plan": f"{plan.model} on {plan.machine}", **rows_of(request)}
    if plan.heads_per_rank:
        most, least = max(plan.heads_per_rank), min(plan.heads_per_rank)
        shown["heads"] = f"{most} on each rank" if most == least else f"{least} to {most} on a rank"
    mine = next((row for row in plan.modes if _chosen(row, plan) and row.seconds is not None), None)
    if mine is not None:
        if mine.mesh.ranks > 1:
            shown["sent"] = (
                f"at most {in_bytes(mine.layer_bytes)} by a rank in a layer, {in_bytes(mine.step_bytes)} in a step"
            )
        shown["step"] = f"about {duration(mine.seconds or 0)}"
    if plan.picture_seconds is not None and plan.pictures_an_hour is not None:
        what = "picture" if plan.requested_frames is None else "video"
        shown[what] = f"about {duration(plan.picture_seconds)}, all steps together"
        by = plural(plan.groups, "group of ranks", "groups of ranks")
        shown["an hour"] = f"about {count(plan.pictures_an_hour)} {what}s by {by}{_most(plan)}"
    if any(plan.held_bytes):
        shown["weights"] = _weights(plan)
        if plan.replicated_seconds is not None and mine is not None and mine.seconds:
            beside = f"{duration(mine.seconds)} a step beside {duration(plan.replicated_seconds)}"
            shown["weights"] += f"; sharded, about {beside} where each rank holds all of them"
    if plan.offload is not None:
        shown["offload"] = _offload(plan.offload, request, mine)
    if plan.memory is not None:
        shown["memory"] = _memory(plan)
    if plan.loading_bytes is not None:
        shown["loading"] = loading(plan.loading_bytes)
    if starts:
        shown["starts"] = starts
    figures = plan.figures
    between = ""
    if request.machine.nodes > 1:
        between = f"; from machine to machine {figures.between_gbps:g} GB/s, {figures.between_us:g} us a message"
    if figures.host_gbps is not None and plan.device == "cuda":
        between += f"; from main memory {figures.host_gbps:g} GB/s"
    shown["speeds"] = (
        f"{figures.tflops:g} TFLOP/s, {figures.tflops_float32:g} in float32, of which {figures.efficiency:.0%}; link "
        f"{figures.link_gbps:g} GB/s, {figures.link_us:g} us a message{between} (from {figures.source})"
    )
    return f"{rows(shown | noted(plan.notes), WIDTH)}\n\n{_table(plan)}"


def _most(plan: Plan) -> str:
    """What another number of groups would make in an hour, if that is more."""
    most, own = plan.most_an_hour, plan.pictures_an_hour or 0
    if most is None or most.pictures_an_hour < 1.005 * own:
        return ""
    ranks = plural(most.mesh.ranks, "rank")
    return f"; with objective=throughput {count(most.pictures_an_hour)}: {most.groups} groups of {ranks}, {most.mode}"


def _weights(plan: Plan) -> str:
    """Which rank holds what."""
    first, *others = ([f"{name} {in_bytes(size)}" for name, size in held.items()] for held in plan.held_bytes)
    if not others or others[0] == first:
        return f"{'each rank' if others else 'the rank'} holds {', '.join(first)}"
    the_others = "rank 1" if len(others) == 1 else "each other rank"
    return f"rank 0 holds {', '.join(first)}; {the_others} {', '.join(others[0])}"


def _offload(moved: Travelling, request: Request, mine: Row | None) -> str:
    """What an offload moves, and what that costs."""
    how, size = request.config.runtime.offload, in_bytes(moved.bytes)
    if moved.each == "call":
        each = "picture" if request.batch == 1 else f"call of {request.batch} pictures"
        told = f"{how} moves {size} to the GPU and back for each {each}"
    else:
        told = f"{how} moves {size} to the GPU in each step"
    if moved.seconds is None:
        left_out = " and step times leave it out" if moved.each == "step" else ""
        return f"{told}; the link's speed is not known{left_out}: type machine.host_gbps= to have it counted"
    told += f", which takes the link about {duration(moved.seconds)}"
    if moved.step_seconds and mine is not None and mine.seconds:
        told += f": {duration(mine.seconds)} a step beside {duration(moved.step_seconds)} without an offload"
    return told


def _memory(plan: Plan) -> str:
    memory = plan.memory
    assert memory is not None
    weights = "weights not known" if memory.weights is None else f"weights {in_bytes(memory.weights)}"
    if memory.weights_encoding is not None and memory.weights_decoding is not None:
        weights += f" ({in_bytes(memory.weights_encoding)} while it encodes, {in_bytes(memory.weights_decoding)} while"
        weights += " it decodes)"
    parts = f"libraries {in_bytes(memory.base)}, {weights}, then activations {in_bytes(memory.activations)}"
    parts += f" and attention's buffers {in_bytes(memory.buffers)}, or decoding {in_bytes(memory.decoding)}"
    free = "" if plan.memory_free_gib is None else f"; {plan.memory_free_gib:.1f} GiB are free for it"
    return f"about {in_bytes(memory.total)} on the fullest rank ({parts}){free}"


def _table(plan: Plan) -> str:
    """All modes: legal or the reasons why not, traffic, step time."""
    head = ("a layer sends", "relative", "a step, about")
    halves = any(row.mesh.cfg > 1 for row in plan.modes)
    degrees = "cfg x ring x ulysses" if halves else "ring x ulysses"
    wide = len(degrees) + 1
    lines = [f"  {'all modes':<17} {degrees:<{wide}} {head[0]:>13}  {head[1]:>8}  {head[2]:>13}  schedule"]
    for row in plan.modes:
        mark = "*" if _chosen(row, plan) else " "
        each = f"{row.mesh.cfg} x " * halves + f"{row.mesh.ring} x {row.mesh.ulysses}"
        start = f"{mark} {row.mode:<17} {each:<{wide}}"
        if row.seconds is None:
            told = "; ".join(reason.rule for reason in row.reasons)
            text = f"no: {told}" if told else "not estimated: invalid sizes or degrees"
            lines.append(textwrap.fill(text, WIDTH, initial_indent=f"{start} ", subsequent_indent=" " * (25 + wide)))
            continue
        sent = "-" if row.mesh.sequence == 1 else in_bytes(row.layer_bytes)
        relative = "-" if row.relative is None or row.mesh.sequence == 1 else f"{row.relative:.2f}"
        lines.append(f"{start} {sent:>13}  {relative:>8}  {duration(row.seconds):>13}  {row.schedule}".rstrip())
    return "\n".join([*lines, "* is what runs. Step times are estimates from the speeds above."])


def _chosen(row: Row, plan: Plan) -> bool:
    return (row.mode, row.mesh.cfg) == (plan.mode, plan.mesh.cfg)
