"""How many groups of ranks share the machine (`data=`), and what `objective=` looks for.

A group makes one picture at a time, so several make several at once, each slower than all ranks together would. With g
groups, n pictures take n / g turns, rounded up, of what one picture takes a group: objective=throughput takes the
g of the least product, objective=latency the fastest way for one picture and as many such groups as there is room for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from attention_backends.catalog import MODES
from launcher.config.schema import LaunchConfig
from launcher.estimates import memory
from launcher.estimates.ways import duration, resolved, way
from launcher.machines import MAX_DEVICES, Machine, devices, insisted, planned
from launcher.problems import Problem, Refused
from launcher.request.inputs import read
from launcher.request.request import Request
from launcher.rules.sharing import sharing_problems
from launcher.wording import plural

AUTO = "auto"


def whole_machine(config: LaunchConfig, here: Machine) -> Machine:
    """The machine whose devices groups share: without its GPUs where a CPU is insisted on."""
    machine = planned(config.machine, insisted(here, config.runtime.device))
    return replace(machine, gpus=()) if config.runtime.device == "cpu" else machine


def groups_of(config: LaunchConfig, machine: Machine) -> int | None:
    """How many groups a configuration asks for; None: as many as estimates find.

    Raises:
        Refused: it is no number, or more than there are devices on which one rank each could run.
    """
    typed, listed = config.data, config.runtime.devices
    if typed is None:
        return None if config.objective == "throughput" else 1
    if typed == AUTO:
        return None
    value = f"data={typed}"
    if not typed.isascii() or not typed.isdigit() or int(typed) < 1:
        raise Refused([Problem(value, "takes a whole number of groups from 1, or auto", "type data=2 or data=auto")])
    count, counted = devices(machine, listed)
    if int(typed) > max(1, count):
        instead = f"type data={count} or less, or data=auto" if count > 1 else "leave it out"
        raise Refused([Problem(value, f"{typed} groups have {counted} to share", instead)])
    return int(typed)


def dealt(config: LaunchConfig, here: Machine) -> Request:
    """Resolve one run for the first of the groups that make its pictures at once.

    Raises:
        Refused: so many groups can't be.
    """
    inputs, machine = read(config), whole_machine(config, here)
    here = insisted(here, config.runtime.device)
    groups, calls = groups_of(config, machine), _calls(config, len(inputs.prompts))

    def of(groups: int) -> Request:
        return resolved(config, inputs, here, groups)

    if groups is None:
        return automatic(of, config, machine, calls)
    if groups > calls:
        units = "picture" if config.batch < 2 else "call"
        instead = "leave it out" if calls == 1 else f"type data={calls} or less, or data=auto"
        rule = f"{groups} groups have {plural(calls, units)} to share"
        raise Refused([Problem(f"data={groups}", rule, instead)])
    request = of(groups)
    if groups > 1 and (found := sharing_problems(request)) and not sharing_problems(of(1)):
        raise Refused([too_much(request, found[0])])  # one group alone would have room
    return request


def _calls(config: LaunchConfig, prompts: int) -> int:
    """Calls of the pipeline that a run takes, at least 1."""
    batch = max(1, config.batch)
    images = config.images if config.images is not None else batch if prompts == 1 else 1
    return max(1, -(-prompts * images // batch))


def too_much(request: Request, problem: Problem) -> Problem:
    """What is wrong with a request that fits the machine, and not one of its parts."""
    groups, mesh = request.groups, replace(request.mesh, data=request.groups)
    rule = f"{problem.value} can't be in one of {groups} groups ({mesh}): {problem.rule}"
    return Problem(f"data={groups}", rule, "type a smaller number, or data=auto")


def automatic(of: Callable[[int], Request], config: LaunchConfig, machine: Machine, pictures: int) -> Request:
    """data=auto: the request with as many groups as its objective takes, and why.

    Args:
        of: the request for each of so many groups.
        pictures: to make, the most groups that there is work for.
    """
    one = of(1)
    if config.objective != "throughput":
        groups = fitting([one], machine, pictures)
        return one if groups == 1 else of(groups)
    table = timed(of, counts(machine, config.runtime.devices, pictures))
    if not table:
        return one
    taken = {each: rounded(math.ceil(pictures / each) * seconds) for each, (_, seconds) in table.items()}
    best, *others = sorted(taken, key=lambda each: (taken[each], -each))
    request = table[best][0]
    why = f"{plural(best, 'group')} of {plural(request.mesh.ranks, 'rank')} by {request.mode} would take the least time"
    why += f" for {plural(pictures, 'picture')}, about {duration(taken[best])}"
    told = [f"{plural(each, 'group')} {duration(taken[each])}" for each in others[:3]]
    return replace(request, why=why + (f" (then {', '.join(told)})" if told else ""))


def most_an_hour(request: Request) -> tuple[Request, float] | None:
    """The request with as many groups as make the most pictures, and the seconds of one; None: nothing is legal."""
    config, whole = request.config, request.whole
    machine = replace(whole, gpus=()) if request.device == "cpu" else whole

    def of(groups: int) -> Request:
        return resolved(config, request.inputs, whole, groups)

    table = timed(of, counts(machine, config.runtime.devices, MAX_DEVICES))
    best = min(table, key=lambda each: (rounded(table[each][1] / each), -each), default=None)
    return None if best is None else table[best]


def fitting(requests: list[Request], machine: Machine, jobs: int) -> int:
    """As many groups as fill the machine with so many ranks each, but no more than there are jobs, or pictures."""
    ranks = max((request.mesh.ranks for request in requests), default=1)
    listed = requests[0].config.runtime.devices if requests else None
    return max(1, min(devices(machine, listed)[0] // max(1, ranks), jobs))


def for_sweep(requests: list[Request], asked: LaunchConfig, here: Machine) -> int:
    """How many groups run a sweep's legal jobs.

    Args:
        asked: what all of them share: objective and devices.
    """
    machine, here = whole_machine(asked, here), insisted(here, asked.runtime.device)
    if asked.objective != "throughput" or not requests:
        return fitting(requests, machine, len(requests))
    taken: dict[int, float] = {}
    for groups in counts(machine, asked.runtime.devices, len(requests)):
        again = [resolved(request.config, request.inputs, here, groups) for request in requests]
        each = [picture_seconds(request) for request in again]
        if None in each or any(map(memory.lacking, again)):
            continue
        jobs = [seconds * request.pictures for seconds, request in zip(each, again, strict=True) if seconds]
        taken[groups] = rounded(max(sum(jobs) / groups, *jobs))
    return min(taken, key=lambda groups: (taken[groups], -groups), default=1)


def counts(machine: Machine, listed: list[int] | None, most: int) -> list[int]:
    """Numbers of groups worth a try: as many as have room with 1 to 16 devices each, 32, 64 ...; at most so many."""
    there = devices(machine, listed)[0]
    sizes = [size for size in (*range(1, 17), *(2**power for power in range(5, 13))) if size < there]
    return sorted({max(1, min(there // size, most)) for size in (*sizes, there)})


def timed(of: Callable[[int], Request], counts: Iterable[int]) -> dict[int, tuple[Request, float]]:
    """Each number of groups with its request and the seconds of a picture: the legal ones, that memory holds if any."""
    tried = {groups: of(groups) for groups in counts}
    found = {groups: (request, seconds) for groups, request in tried.items() if (seconds := picture_seconds(request))}
    held = {groups: one for groups, one in found.items() if not memory.lacking(one[0])}
    return held or found


def picture_seconds(request: Request) -> float | None:
    """Seconds that a group's ranks denoise a picture for, an estimate; None of a request that is not legal."""
    if request.mode not in MODES:
        return None
    mine = next((one for one in request.ways if (one.mode, one.mesh) == (request.mode, request.mesh)), None)
    seconds = (mine or way(request)).seconds if not sharing_problems(request) else 0.0
    return seconds * request.denoising_steps / request.batch or None


def per_hour(groups: int, seconds: float) -> float:
    """Pictures an hour of so many groups that are never idle."""
    return 3600 * groups / seconds


def rounded(seconds: float) -> float:
    """Seconds without the last digits, in which equal sums differ."""
    return float(f"{seconds:.6g}")
