"""`python -m launcher report DIR ...`: one page, and Markdown, of all runs below some folders."""

from __future__ import annotations

from pathlib import Path

from launcher.cli.parser import Parser
from launcher.cli.terminal import show
from launcher.config.paths import user_path
from launcher.problems import Problem, Refused
from launcher.records.runs import NAME
from launcher.running.hold import is_held
from launcher.running.sweep_folder import shown
from launcher.wording import plural

ABOUT = "write a page that compares runs: table, pictures, plots, environment"
USAGE = """\
python -m launcher report DIR ...    report.html and report.md in the first DIR, of all runs below them

The page needs no network and no other file. A sweep writes its own.

Options
{options}"""


def main(words: list[str]) -> int:
    """Write a report."""
    parser = Parser()
    parser.add_argument("--baseline", metavar="RUN", help="compare with this run; default: the one on a single rank")
    parser.add_argument("--out", metavar="DIR", help="the folder to write to; default: the first one")
    args = parser.read(words)
    if args.help:
        show(USAGE.format(options=parser.options()))
        return 0
    if not args.overrides:
        raise Refused([Problem("report", "takes one folder or more", "type python -m launcher report DIR")])
    folders = [_folder(word) for word in args.overrides]
    baseline = None if args.baseline is None else _folder(args.baseline)
    if baseline is not None and not (baseline / NAME).is_file():
        raise Refused([Problem(f"--baseline {args.baseline}", f"no {NAME} in it", "give the folder of a run")])
    place = folders[0] if args.out is None else _folder(args.out)

    from launcher.reporting import page  # Pillow, Jinja and matplotlib, which a refusal does not wait for

    try:
        rows = page.write(folders, place, is_held, baseline)
    except OSError as error:
        rule, instead = f"can't be written ({error.strerror or error})", "type --out DIR"
        raise Refused([Problem(str(place), rule, instead)]) from error
    if not rows:
        show(f"no run below {', '.join(map(str, folders))}")
    show(f"{plural(len(rows), 'run')}: {place / page.HTML} and {page.MARKDOWN}")
    return 0


def _folder(word: str) -> Path:
    try:
        path = user_path(word)
    except ValueError as error:
        raise Refused([Problem(word, str(error), "give a folder")]) from error
    if not path.is_dir():
        raise Refused([Problem(word, "no such folder", "give the folder of a run, a sweep, or outputs")])
    return shown(path)
