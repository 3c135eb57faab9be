"""`python -m launcher runs [DIR] [filter ...]`: what was run. `runs show`, `diff` and `rm`: one run, two, none."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.cli import listing
from launcher.cli.parser import Parser
from launcher.cli.queued import QUEUED, job_of, looked_at
from launcher.cli.screen import rows
from launcher.cli.terminal import say, show
from launcher.config.paths import user_path
from launcher.problems import Problem, Refused
from launcher.records import runs
from launcher.records.runs import BROKEN, NAME, Run
from launcher.running.hold import is_held
from launcher.running.replay import flat
from launcher.wording import plural, shorten

if TYPE_CHECKING:
    import argparse

    from launcher.records.compare import Difference

    Pair = tuple[tuple[Path, Path], Difference]  # two pictures, and what lies between them

ABOUT = "list the runs of a folder, filtered and sorted; show, compare or remove them"
USAGE = """\
python -m launcher runs [DIR] [filter ...]   the runs below DIR (default: outputs), newest first
python -m launcher runs show RUN             one run: its settings, times, memory, files, environment
python -m launcher runs diff RUN RUN         what differs in configuration, environment and result
python -m launcher runs rm RUN ...           remove runs; asks first

A filter is a column or setting with the values it may have: model=flux cp=ring_anything status=failed,killed seed=1
cp.schedule=staged prompt=cat since=7d before=2026-01-31; * and ? stand for any letters.

Columns: {columns}

Options
{options}"""


def main(words: list[str]) -> int:
    """Answer what was asked about the runs of a folder."""
    parser = Parser()
    parser.add_argument("--sort", metavar="COLUMN", help="by this column, the smallest first; default: newest first")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--columns", metavar="A,B,C", help="which columns, or settings, to show")
    parser.add_argument("--limit", metavar="N", type=int, help="so many rows at most")
    parser.add_argument("--json", action="store_true", help="as data")
    parser.add_argument("--csv", action="store_true", help="as a table for other programs")
    parser.add_argument("--map", metavar="FILE", help="diff: write a PNG of both first pictures and their difference")
    parser.add_argument("--yes", action="store_true", help="rm: remove unasked")
    args = parser.read(words)
    if args.help:
        show(USAGE.format(columns=", ".join(listing.COLUMNS), options=parser.options()))
        return 0
    try:
        _answer(args)
    except RecursionError as error:
        rule = "a run.json there is nested too deeply to be shown"
        raise Refused([Problem("runs", rule, "name other runs, or fewer columns")]) from error
    return 0


def _answer(args: argparse.Namespace) -> None:
    verb, *rest = args.overrides or [""]
    if verb == "show":
        _show(_one(rest, 1, "show RUN")[0], args.json)
    elif verb == "diff":
        one, other = _one(rest, 2, "diff RUN RUN")
        _diff(one, other, args)
    elif verb == "rm":
        _remove(_one(rest, 0, "rm RUN ..."), args.yes)
    else:
        _list(args)


def _list(args: argparse.Namespace) -> None:
    folders = [word for word in args.overrides if "=" not in word]
    if len(folders) > 1:
        raise Refused([Problem(folders[1], "runs lists one folder", "type python -m launcher runs DIR [filter ...]")])
    folder = _path(folders[0] if folders else "outputs")
    if not folder.is_dir():
        raise Refused([Problem(str(folder), "no such folder", "type python -m launcher runs DIR")])
    tests = listing.filters(word for word in args.overrides if "=" in word)
    names = [name.strip() for name in args.columns.split(",")] if args.columns else list(listing.SHOWN)
    for name in [*names, *([args.sort] if args.sort else [])]:
        listing.column(name)
    found = [run for run in looked_at(runs.find(folder, is_held)) if all(test(run) for test in tests)]
    found = listing.ordered(found, args.sort)
    found = (found[::-1] if args.reverse else found)[: args.limit]
    if args.json or args.csv:
        show((listing.as_json if args.json else listing.as_csv)(found, names))
    elif found:
        show(listing.as_table(found, names))
    else:
        show(f"no run below {folder}" + (" is of this kind" if tests else ""))


def _path(text: str) -> Path:
    try:
        path = user_path(text)
    except ValueError as error:
        raise Refused([Problem(text, str(error), "give a folder")]) from error
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _one(words: list[str], count: int, usage: str) -> list[Run]:
    """The runs whose folders were typed."""
    if len(words) != count if count else not words:
        rule = f"takes {plural(count, 'run')}" if count else "takes one run or more"
        raise Refused([Problem(f"runs {usage.split()[0]}", rule, f"type runs {usage}")])
    found: list[Run] = []
    problems = []
    for word in words:
        path = _path(word)
        path = path.parent if path.name == NAME else path
        if (path / NAME).exists():
            found += looked_at([runs.read(path, str(path), is_held)])
        else:
            rule = f"no {NAME} in it" if path.is_dir() else "no such folder"
            problems.append(Problem(word, rule, "type python -m launcher runs for the list"))
    if problems:
        raise Refused(problems)
    return found


def _show(run: Run, data: bool) -> None:
    if data:
        show(json.dumps(run.data, indent=2))
        return
    told = {"run": run.folder, "status": run.status + (f": {shorten(run.reason, 400)}" if run.reason else "")}
    if run.status != BROKEN and run.data:
        told |= {name: listing.shown(name, value(run)) for name, value in listing.COLUMNS.items() if value(run)}
        told |= {"status": run.status, "command": shorten(str(run.data.get("command")), 2000)}
        for name in ("times", "environment", "versions", "weights"):
            told[name] = _told(run.data.get(name))
        told["files"] = _told({one.get("file"): one.get("sha256") for one in _dicts(run.data.get("files"))})
    show(rows({name: text for name, text in told.items() if text}, 116))


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _told(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{shorten(str(key))} {_told(item)}" for key, item in value.items() if item is not None)
    return shorten(str(value), 200)


def _diff(one: Run, other: Run, args: argparse.Namespace) -> None:
    from launcher.records.compare import difference

    found: dict[str, tuple[Any, Any]] = {}
    for part in ("config", "versions", "environment", "weights", "inputs", "checkout", "times"):
        parts = [told if isinstance(told := run.data.get(part), dict) else {} for run in (one, other)]
        both = [dict(flat(told, "" if part == "config" else f"{part}.")) for told in parts]
        for name in dict.fromkeys([*both[0], *both[1]]):
            if both[0].get(name) != both[1].get(name):
                found[name] = both[0].get(name), both[1].get(name)
    for name in ("prompts", "devices", "kernel", "peak_bytes", "sent_bytes", "tokens_per_rank"):
        if one.data.get(name) != other.data.get(name):
            found[name] = one.data.get(name), other.data.get(name)
    for name in ("status", "s/step"):
        value = listing.COLUMNS[name]
        if value(one) != value(other):
            found[name] = value(one), value(other)
    pictures: list[Pair] = []
    for before, after in zip(_dicts(one.data.get("files")), _dicts(other.data.get("files")), strict=False):
        paths = one.path / Path(str(before.get("file"))).name, other.path / Path(str(after.get("file"))).name
        pictures.append((paths, difference(*paths, before.get("fps"))))
    if args.map:
        _map(pictures, _path(args.map))
    if args.json:
        told = [{"one": str(paths[0]), "other": str(paths[1]), **vars(apart)} for paths, apart in pictures]
        show(json.dumps({"differs": {name: list(pair) for name, pair in found.items()}, "pictures": told}, indent=2))
        return
    lines = [f"{'one':<10} {one.folder}", f"{'other':<10} {other.folder}"]
    lines += [f"{'differs':<10} {shorten(name)}: {_told(a)} -> {_told(b)}" for name, (a, b) in found.items()]
    lines += [f"{'picture':<10} {paths[0].name}: {shorten(str(apart), 200)}" for paths, apart in pictures]
    if pictures and not args.map:
        lines.append(f"{'note':<10} --map FILE writes where the first pictures differ")
    show("\n".join(lines))


def _map(pictures: list[Pair], path: Path) -> None:
    """Write both first pictures and where they differ, side by side."""
    from launcher.records.compare import side_by_side

    value = f"--map {path}"
    if not pictures or pictures[0][1].why:
        why = pictures[0][1].why if pictures else "the runs have no two pictures"
        raise Refused([Problem(value, why, "leave it out")])
    try:
        (before, after), _ = pictures[0]
        side_by_side(before, after, path)
    except (OSError, ValueError) as error:
        raise Refused([Problem(value, f"can't be written ({error})", "give the name of a PNG file")]) from error


def _remove(found: list[Run], yes: bool) -> None:
    problems = []
    for run in found:
        if is_held(run.path):
            problems.append(Problem(run.folder, "a launcher is at work there", "wait for its end"))
        elif run.status == QUEUED:
            number = job_of(run)
            problems.append(Problem(run.folder, f"Slurm job {number} waits to run there", f"type scancel {number}"))
        elif run.path.is_symlink():
            problems.append(Problem(run.folder, "is a link", "give the run's own folder"))
        elif run.status == BROKEN:
            problems.append(Problem(run.folder, f"{run.reason}: it may not be a run", "remove it by hand"))
    if problems:
        raise Refused(problems)
    count = sum(len(list(run.path.rglob("*"))) for run in found)
    what = f"{plural(len(found), 'run')} with {plural(count, 'file')}: {', '.join(run.folder for run in found)}"
    if not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise Refused([Problem("runs rm", "there is no terminal to ask at", "type --yes")])
        say(f"This removes {what}", sys.stderr)
        try:
            yes = input("Remove? [y/N] ").strip().lower() in ("y", "yes")
        except EOFError:
            yes = False
    if not yes:
        show("nothing was removed")
        return
    for run in found:
        try:
            shutil.rmtree(run.path)
        except OSError as error:
            raise Refused([Problem(run.folder, f"can't be removed ({error.strerror})", "see who owns it")]) from error
    show(f"removed {what}")
