"""The proof that every family is exact in every mode, and the table of it beside conf/README.md.

    python tests/families/proof.py            # runs the rows whose plan, model or inputs changed, and writes the table
    python tests/families/proof.py wan ltx    # runs these rows in any case
    python tests/families/proof.py all        # runs every case: some minutes

What was found stands in proof.json, a row each, with a fingerprint of what it follows from.

A second table shows diffusers' own context parallelism on the same cases, for classes that bring a plan (theirs.py).

Every rank's output must equal one process's to LIMIT in float32, or the case must be refused; nothing else is allowed.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
# ruff: noqa: E402  (the helpers are found by path, as pytest finds them)
sys.path[:0] = [str(HERE), str(HERE.parent / "attention_backends" / "helpers")]

import diffusers
import theirs
from exact import errors
from miniatures import OTHERS, TINY, Tiny
from proof_cases import LIMIT, MODEL, PARALLEL, THEIR_DEGREES, WORLDS, Case, Results, Row, cases, plans
from ranks import Ranks

TABLE = ROOT / "conf" / "README.md"
RESULTS = HERE / "proof.json"
BEGIN, END = "<!-- proof: begin -->", "<!-- proof: end -->"
THEIRS = """diffusers' own context parallelism on such cases, with a mask that is absent (none), hides nothing (true) or
hides the end of prompts (partial), for the classes that bring a plan. What keeps it from a CPU at all is supplied: a
device mesh, a log-sum-exp, an uneven all_gather. `**wrong**` is more than 1e-4 off, without a word."""


def run(ranks: Ranks, name: str, plan: dict[str, Any], wanted: list[Case]) -> Results:
    """The largest error on any rank, or what every rank refused the case with."""
    found: Results = {}
    for world in WORLDS:
        own = [case for case in wanted if case.world == world]
        told = ranks.run(errors, world, name=name, plan=plan, cases=[(case.arguments, case.size) for case in own])
        for case, results in zip(own, zip(*told, strict=True), strict=True):
            said = [result for result in results if isinstance(result, str)]
            assert len(said) in (0, world), (case, results)
            found[case] = said[0] if said else max(results)
    return found


def cell(results: Results) -> str:
    """A mode's cell: exact, refused and why, or wrong."""
    numbers = [result for result in results.values() if not isinstance(result, str)]
    said = {refusal(result) for result in results.values() if isinstance(result, str)}
    if any(number > LIMIT for number in numbers):
        return f"WRONG by {max(numbers):.0e}"
    if not numbers:
        return f"refused: {' and '.join(sorted(said))}"
    return "exact" if not said else f"exact; refused: {' and '.join(sorted(said))}"


def refusal(message: str) -> str:
    """The short word for a refusal; a crash is none."""
    known = {
        "takes no attention mask": "a mask",
        "needs a multiple of": "uneven tokens",
        "needs one on each": "too few",
    }
    for words, short in known.items():
        if message.startswith("ValueError") and words in message:
            return short
    return f"CRASH {message[:80]}"


def run_theirs(name: str) -> Results:
    """What diffusers' own context parallelism makes of the cases."""
    found: Results = {}
    for mode, degrees in THEIR_DEGREES.items():
        world = degrees[0] * degrees[1]
        ranks = Ranks(world)
        for case in (case for case in cases(name) if case.mode == mode and (case.ring, case.ulysses) == degrees):
            try:
                told = ranks.run(theirs.errors, world, name=name, cases=[(case.arguments, case.size)])
            except AssertionError:  # a rank died
                found[case] = "Crash"
                continue
            said = [result for (result,) in told if isinstance(result, str)]
            found[case] = said[0] if said else max(result for (result,) in told)
            if 0 < len(said) < world:
                ranks.stop()  # a rank may still wait for another
        ranks.stop()
    return found


def their_cell(results: Results) -> str:
    """What diffusers' own gives, and for which masks if that differs."""
    outcomes: dict[str, list[str]] = {}
    for case, result in results.items():
        if isinstance(result, str):
            outcome = "refused" if result.startswith("ValueError") and "does not support" in result else "crash"
        else:
            outcome = "exact" if result <= LIMIT else "**wrong**"
        masks = outcomes.setdefault(outcome, [])
        masks += [case.size.mask] if case.size.mask not in masks else []
    if len(outcomes) <= 1:
        return "".join(outcomes)
    return "; ".join(f"{outcome} ({', '.join(masks)})" for outcome, masks in sorted(outcomes.items()))


def fingerprint(name: str) -> str:
    """Of what a row follows from, but for attention_backends itself: plan, tiny model, its inputs, cases, diffusers."""
    tiny = TINY[name]
    content = json.dumps([plans()[name], [repr(case) for case in cases(name)], tiny.config, diffusers.__version__])
    code = [inspect.getsource(Tiny), *_sources(tiny.inputs)]
    exact = (HERE / "exact.py").read_text(encoding="utf-8")
    return hashlib.sha256("\n".join([tiny.kind, content, *code, exact]).encode()).hexdigest()[:16]


def _sources(function: Any) -> list[str]:
    """The source of a function of inputs*.py, and of those there that it calls."""
    wanted, found = [function], {}
    while wanted:
        one = wanted.pop()
        if one.__name__ not in found:
            found[one.__name__] = inspect.getsource(one)
            called = [vars(sys.modules[one.__module__]).get(name) for name in one.__code__.co_names]
            wanted += [each for each in called if inspect.isfunction(each) and each.__module__.startswith("inputs")]
    return [found[name] for name in sorted(found)]


def row(name: str, ours: Results, others: Results) -> Row:
    """What is kept of a tiny transformer's results."""
    numbers = [number for number in ours.values() if not isinstance(number, str)]
    found = {
        "fingerprint": fingerprint(name),
        "cases": len(ours),
        "worst": float(f"{max(numbers):.1e}"),
        "ours": {mode.name: cell({c: r for c, r in ours.items() if c.mode == mode.name}) for mode in PARALLEL},
    }
    if others:
        found["theirs"] = {
            mode: their_cell({c: r for c, r in others.items() if c.mode == mode}) for mode in THEIR_DEGREES
        }
    return found


def known() -> dict[str, Row]:
    """The rows that are kept, in the order of MODEL."""
    found: dict[str, Row] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return {name: found[name] for name in MODEL if name in found}


def stale(rows: dict[str, Row]) -> list[str]:
    """The tiny transformers whose row is missing, or follows from something else than what is here."""
    return [name for name in MODEL if rows.get(name, {}).get("fingerprint") != fingerprint(name)]


def _title(name: str) -> str:
    """The class, and which way of working it is shown in if it has several rows."""
    kind = TINY[name].kind
    first = next(other for other in TINY if TINY[other].kind == kind)
    return kind if name == first else f"{kind} ({name})"


def _guided(name: str) -> str:
    """Whether its guidance scale is embedded; nothing for a class that can't."""
    if "guidance_embeds" not in inspect.signature(getattr(diffusers, TINY[name].kind).__init__).parameters:
        return ""
    return "embedded" if TINY[name].build().config.guidance_embeds else "not embedded"


def written(rows: dict[str, Row]) -> str:
    """Markdown: ours, a row for each tiny transformer, then diffusers' own, for each class with a plan of its own."""
    names = [mode.name for mode in PARALLEL]
    lines = [f"| class | plan of | guidance | {' | '.join(names)} |", "| --- | --- | --- |" + " --- |" * len(names)]
    for name, found in rows.items():
        cells = " | ".join(found["ours"][mode] for mode in names)
        plan = "its class" if name in OTHERS else f"`{MODEL[name]}`"
        lines.append(f"| {_title(name)} | {plan} | {_guided(name)} | {cells} |")
    count, worst = sum(found["cases"] for found in rows.values()), max(found["worst"] for found in rows.values())
    said = f"{count} cases on 2, 3 and 4 ranks, diffusers {diffusers.__version__}; the largest error is {worst:.0e}."
    lines += ["", said, "", THEIRS, "", f"| class | {' | '.join(THEIR_DEGREES)} |"]
    lines.append("| --- |" + " --- |" * len(THEIR_DEGREES))
    for name, found in rows.items():
        if "theirs" in found:
            lines.append(f"| {_title(name)} | {' | '.join(found['theirs'][mode] for mode in THEIR_DEGREES)} |")
    return "\n".join(lines)


def main(names: list[str]) -> None:
    rows = known()
    wanted = list(MODEL) if names == ["all"] else [name for name in MODEL if name in names or name in stale(rows)]
    ranks = Ranks(max(WORLDS))
    try:
        for name in wanted:
            ours = run(ranks, name, plans()[name], list(cases(name)))
            own_plan = getattr(getattr(diffusers, TINY[name].kind), "_cp_plan", None)
            rows[name] = row(name, ours, run_theirs(name) if own_plan else {})
            print(name, rows[name], flush=True)
            RESULTS.write_text(json.dumps({key: rows[key] for key in MODEL if key in rows}, indent=1) + "\n")
    finally:
        ranks.stop()
    before, _, rest = TABLE.read_text(encoding="utf-8").partition(BEGIN)
    TABLE.write_text(f"{before}{BEGIN}\n{written(known())}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
