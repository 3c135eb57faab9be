"""`python -m launcher models`: the families, what is legal for each here, and whether its weights are here."""

from __future__ import annotations

import json

from launcher import machines
from launcher.cli.help import page as help_page
from launcher.cli.parser import Parser
from launcher.cli.terminal import show
from launcher.config.compose import Composer
from launcher.config.model_schema import ModelConfig
from launcher.config.paths import user_path
from launcher.families.draft import draft
from launcher.families.weights import folder
from launcher.problems import Problem, Refused
from launcher.request.request import Request
from launcher.rules.model import pipeline_class
from launcher.running.checked import resolved

ABOUT = "list the models: task, size, text, heads, legal modes, licence, whether the weights are here"
TEXTS = {"padded": "{}, split", "prompt": "up to {}, split", "whole": "{}, whole", "joined": "up to {}, joined"}


def main(words: list[str]) -> int:
    """List every family for this machine, or for the one that `machine=` names; or draft a plan for a folder."""
    parser = Parser()
    parser.add_argument("--json", action="store_true", help="the list as data")
    parser.add_argument("--draft", metavar="FOLDER", help="the first draft of a model file for a diffusers pipeline")
    args = parser.read(words)
    composer = Composer(args.config_dir)
    if args.help:
        show(help_page(composer, args.overrides, "models", parser))
        return 0
    if args.draft is not None:
        try:
            place = user_path(args.draft)
        except ValueError as error:
            raise Refused([Problem(f"--draft {args.draft}", str(error), "type --draft FOLDER")]) from error
        show(draft(place))
        return 0
    for word in args.overrides:
        if word.startswith(("model=", "cp=", "cp.")):
            raise Refused([Problem(word, "models lists every model in every mode", "leave it out")])
    machine = machines.here()
    whole = "runtime.weights=replicated"  # what is legal, and not what fits: that would take other weights
    lines = [[whole, *args.overrides, f"model={name}"] for name in composer.groups["model"]]
    rows = [_row(resolved(composer, line, machine)[1]) for line in lines]
    show(json.dumps(rows, indent=2) if args.json else _page(rows))
    return 0


def _row(request: Request) -> dict[str, object]:
    """What is listed of one model."""
    model = request.config.model
    ways = () if list(pipeline_class(request)) else request.ways
    return {
        "name": model.name,
        "task": model.task,
        "pipeline": model.pipeline,
        "parameters": _parameters(request),
        "size": _size(request),
        "text": TEXTS.get(model.text, "{}").format(model.text_tokens + model.text_extra),
        "heads": model.heads,
        "modes": list(dict.fromkeys(way.mode for way in ways if not way.problems)),
        "licence": model.licence,
        "gated": model.gated,
        "weights": _here(model),
    }


def _parameters(request: Request) -> int | None:
    """Of all transformers, as the files say where they are here."""
    model, here = request.config.model, request.inputs.checkpoint.parameters
    return sum(here.get(name, 0) for name in model.transformers) or model.transformer_params


def _size(request: Request) -> str:
    frames = "" if request.frames is None else f" x {request.frames} frames"
    return f"{request.requested}{frames}"


def _here(model: ModelConfig) -> bool:
    found = folder(model)
    return found is not None and (found / "model_index.json").is_file()


def _page(rows: list[dict[str, object]]) -> str:
    """The list for the screen."""
    head = ("model", "task", "parameters", "size", "text", "heads", "modes here", "weights", "licence")
    lines: list[tuple[str, ...]] = [head]
    for row in rows:
        count = row["parameters"]
        size = f"{count / 1e9:.1f} B" if isinstance(count, int) else "-"
        modes = row["modes"]
        assert isinstance(modes, list)
        where = ("here" if row["weights"] else "on the hub") + (", gated" if row["gated"] else "")
        told = (row["name"], row["task"], size, row["size"], row["text"], row["heads"], " ".join(modes) or "-", where)
        cells = (*told, row["licence"] or "-")
        lines.append(tuple(str(cell) for cell in cells))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
