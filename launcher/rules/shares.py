"""How much of the sequence each rank takes, and with how many threads: tried for each mode of a plan's table too."""

from __future__ import annotations

from collections.abc import Iterator

from attention_backends.catalog import MODES
from attention_backends.layout import split_lengths
from attention_backends.plan import PlanError, parse
from launcher.problems import Problem
from launcher.request.fill_in import whole_numbers
from launcher.request.request import MAX_RANKS, Request
from launcher.rules.rule import rule, typed
from launcher.wording import plural

MAX_SHARE = 10_000


@rule
def shares(request: Request) -> Iterator[Problem]:
    """Unequal shares are whole numbers, one for each rank of a sequence, in a mode that takes any length."""
    shares, mode, mesh = request.config.cp.shares, MODES.get(request.mode), request.mesh
    if shares is None or mode is None or not mesh.whole or mesh.ranks > MAX_RANKS:
        return
    value, example = typed("cp.shares", shares), typed("cp.shares", [2, *[1] * (max(mesh.sequence, 2) - 1)])
    if shares != "auto" and not whole_numbers(shares):
        yield Problem(value, "takes whole numbers from 1, one for each rank, or auto", f"type {example}")
    elif shares != "auto" and max(shares) > MAX_SHARE:
        yield Problem(value, f"a share is {MAX_SHARE} at most", f"type {example}")
    elif not mode.parallel:
        yield Problem(value, f"cp={mode.name} shares no sequence", "leave it out, or type cp=ring_anything")
    elif shares != "auto" and len(shares) != mesh.sequence:
        what = f"{plural(len(shares), 'share')} for {plural(mesh.sequence, 'rank')} of a sequence ({mesh})"
        words = [example] if mesh.sequence > 1 else []
        words += _processes(request, len(shares) * mesh.cfg)
        yield Problem(value, what, f"type {', or '.join(words)}" if words else "leave it out")
    elif request.shares and mode.even:
        anything = mode.any_length(masked=request.masked)
        what = f"cp={mode.name} needs equal shares, and these are {list(request.shares)}"
        yield Problem(value, what, f"type cp={anything}, or cp.shares=null for equal ones")


def _processes(request: Request, count: int) -> list[str]:
    """What to type for so many ranks, where degrees that were typed don't say how many there are."""
    cp = request.config.cp
    return [f"runtime.processes={count}"] if cp.ring_degree is None and cp.ulysses_degree is None else []


@rule
def threads_each(request: Request) -> Iterator[Problem]:
    """A list of threads has a number for each rank."""
    listed, mesh = request.config.runtime.threads, request.mesh
    if whole_numbers(listed) and mesh.whole and len(listed) != mesh.ranks:
        what = f"{plural(len(listed), 'number')} for {plural(mesh.ranks, 'rank')} ({mesh})"
        words = [f"runtime.threads={listed[0]} for all", *_processes(request, len(listed))]
        instead = f"type {', or '.join(words)}"
        yield Problem(typed("runtime.threads", listed), what, instead)


@rule
def a_token_each(request: Request) -> Iterator[Problem]:
    """Every rank has a token of every stream, but of those of which the plan says that a rank may have none."""
    model, mode, ranks = request.config.model, MODES.get(request.mode), request.mesh.sequence
    if mode is None or not mode.parallel or model.cp_plan is None or not 2 <= ranks <= MAX_RANKS:
        return
    try:
        plan = parse(model.cp_plan)
    except PlanError:
        return  # named by model.cp_plan
    if not set(plan.streams) - plan.empty:
        return
    for name, length in request.streams.items():
        needs = f"{model.name} needs {name} tokens on each of {ranks} ranks"
        if 0 < length < ranks:
            what = f"{needs}, and there are {length}"
            yield Problem(f"cp={request.mode}", what, f"type runtime.processes={length} or less, or cp=none")
        elif length and 0 in (held := split_lengths(length, ranks, request.shares)):
            enough = typed("cp.shares", _with_a_token_each(list(request.shares), length))
            yield Problem(
                typed("cp.shares", request.config.cp.shares), f"{needs}, and these hold {list(held)}", f"type {enough}"
            )


def _with_a_token_each(shares: list[int], length: int) -> list[int]:
    """The nearest shares of so many tokens that leave no rank without one, of numbers up to 100."""
    shares = [max(1, round(100 * share / max(shares))) for share in shares]
    while 0 in (held := split_lengths(length, len(shares), tuple(shares))):
        shares = [share + (not tokens) for share, tokens in zip(shares, held, strict=True)]
    return shares
