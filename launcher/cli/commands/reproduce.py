"""`python -m launcher reproduce FILE_OR_DIR [setting=value ...]`: make a picture again, and tell how close it comes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cli.help import page as help_page
from launcher.cli.parser import Parser
from launcher.cli.terminal import Terminal, say, show
from launcher.config.compose import Composer
from launcher.config.paths import PICTURES, user_path
from launcher.problems import Problem, Refused
from launcher.running import replay
from launcher.running.replay import Original
from launcher.running.session import Session
from launcher.wording import plural, shorten

if TYPE_CHECKING:
    from launcher.records.compare import Difference
    from launcher.running.job import Made

ABOUT = "make a picture or a run again from its recipe, and tell how close it comes"
TOLD = ("prompt", *PICTURES, "lora.path")  # what differs in them is told by prompts and SHA-256
LONGEST = 4000  # characters of a recipe on the screen
NO = "neither this installation's conf/model nor your own words name it"


def main(words: list[str]) -> int:
    """Run a recipe again: 0 if its pictures were made, with --exact 1 unless they are the same."""
    parser = Parser()
    parser.add_argument("--yes", action="store_true", help="fetch a model that conf/model does not name, unasked")
    parser.add_argument("--show", action="store_true", help="show what would be run, and run nothing")
    parser.add_argument("--exact", action="store_true", help="end with 1 unless all pixels are the same")
    parser.add_argument("--json", action="store_true", help="the comparison as data")
    args = parser.read(words)
    composer = Composer(args.config_dir)
    if args.help:
        show(help_page(composer, [], "reproduce", parser))
        return 0
    sources = [word for word in args.overrides if "=" not in word or Path(word).exists()]
    if len(sources) != 1:
        rule = "takes one picture or one run's folder" + (f", and got {len(sources)}" if sources else "")
        raise Refused([Problem("reproduce", rule, "type python -m launcher reproduce FILE_OR_DIR")])
    overrides = [word for word in args.overrides if word not in sources]
    try:
        source = replay.original(user_path(sources[0]))
    except ValueError as error:
        raise Refused([Problem(sources[0], str(error), "give a picture or a run's folder")]) from error
    with prompts_file(source, overrides) as prompts, Session(composer, None if args.json else Terminal()) as session:
        here = replay.kept(source)
        line = [*replay.words(source.config, overrides, composer, here), *prompts]
        _, request = session.resolve(line)
        if not args.json:
            show(f"recipe     {shorten(shlex.join(['python', '-m', 'launcher', *line]), LONGEST)}")
            for name in replay.facts_that_differ(source.config, request.config):
                say(f"note       {name} is another one in this installation, which is used", sys.stdout)
        if args.show:
            return 0
        _agree(replay.strangers(request.config, overrides, composer, here.values()), args.yes)
        made = session.run(line)
    found = compared(source, made)
    apart = differences(source, made)
    if args.json:
        pictures = [dataclasses.asdict(one) for one in found]
        told = {"folder": str(made.folder), "pictures": pictures, "differs": apart}
        show(json.dumps(told, indent=2))
    else:
        show(page(source, made, found, apart))
    return 0 if not args.exact or (found and all(one.same for one in found)) else 1


@contextlib.contextmanager
def prompts_file(source: Original, overrides: list[str]) -> Iterator[list[str]]:
    """The words for a recipe's prompts: one is a setting, several are a file while the block runs."""
    if any(word.lstrip("+").startswith(("prompt=", "prompt_file=")) for word in overrides):
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="launcher-prompts-") as folder:
        path = Path(folder) / "prompts.json"
        path.write_text(json.dumps(source.prompts), encoding="utf-8")
        yield [f"prompt_file={path}"] if len(source.prompts) != 1 else [replay.text("prompt", source.prompts[0])]


def _agree(strangers: list[str], yes: bool) -> None:
    """Ask the user about what a recipe would have fetched.

    Raises:
        Refused: the answer is no, or there is nobody to ask.
    """
    if not strangers or yes:
        return
    asked = " ".join(shorten(word, 100) for word in strangers)
    if sys.stdin is not None and sys.stdin.isatty():
        say(f"The recipe asks for {asked}: {NO}.", sys.stderr)
        try:
            if input("Load it from the hub or the cache? [y/N] ").strip().lower() in ("y", "yes"):
                return
        except EOFError:
            pass
    raise Refused([Problem(f"recipe: {asked}", NO, "type --yes if you trust it, or model=NAME for another model")])


def compared(source: Original, made: Made) -> list[Difference]:
    """Each picture of the original with the one that was made in its place."""
    from launcher.records.compare import Difference, difference

    found = []
    for number, file in enumerate(made.record.files):
        path = made.folder / file.file
        if number >= len(source.pictures):
            found.append(Difference(why="the original has no such picture"))
        elif not source.pictures[number].is_file():
            same = source.digests[number] == file.sha256
            gone = f"{source.pictures[number].name} is gone, and its record has another SHA-256"
            found.append(Difference("bytes", 0, 0.0, None, 1.0) if same else Difference(why=gone))
        else:
            found.append(difference(source.pictures[number], path, file.fps))
    return found


def differences(source: Original, made: Made) -> dict[str, list[str | None]]:
    """What was recorded then and is another thing now: [then, now] by name. What one side does not tell is left out."""
    now = replay.recorded(made.record) | {"environment": made.record.environment}
    found: dict[str, list[str | None]] = {}
    for part, then in source.recorded.items():
        for name, value in then.items():
            other = now.get(part, {}).get(name)
            if other != value and (part != "weights" or other is not None):
                found[name if part in ("versions", "environment") else f"{part}: {name}"] = [value, other]
    before, after = (dict(replay.flat(config)) for config in (source.config, made.record.config))
    for name in before.keys() & after.keys():
        if before[name] != after[name] and not name.startswith(replay.PASSED_OVER) and name not in TOLD:
            found[name] = [str(before[name]), str(after[name])]
    if source.prompts != made.record.prompts:
        found["prompt"] = [" | ".join(source.prompts), " | ".join(made.record.prompts)]
    return dict(sorted(found.items()))


def page(source: Original, made: Made, found: list[Difference], apart: dict[str, list[str | None]]) -> str:
    """How close it came, and what differs."""
    lines = [f"{'compared':<10} {shorten(str(source.path))} and {made.folder}"]
    for file, one in zip(made.record.files, found, strict=True):
        lines.append(f"{file.file:<10} {one}")
    same = sum(bool(one.same) for one in found)
    lines.append(f"{'same':<10} {same} of {plural(len(found), 'picture')}")
    if source.together > 1:
        what = f"it was one of {source.together} pictures of a call, and is drawn alone here: the same up to rounding"
        lines.append(f"{'note':<10} {what}")
    for name, (then, now) in apart.items():
        cells = [shorten(value or "-", 60) for value in (then, now)]
        lines.append(f"{'differs':<10} {shorten(name)}: {cells[0]} -> {cells[1]}")
    return "\n".join(lines)
