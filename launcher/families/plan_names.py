"""The names in a plan against the source of the class it is for, as far as a source tells; nothing is loaded."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from attention_backends.plan import Plan, nearest
from launcher.config.model_schema import ModelConfig
from launcher.families import sources
from launcher.families.sources import Classes
from launcher.problems import Problem

LISTS = ("ModuleList", "Sequential")


def name_problems(model: ModelConfig, plan: Plan) -> Iterator[Problem]:
    """Modules and parameters that the class of the pipeline's first transformer does not have."""
    kind = sources.part_of(model.pipeline, next(iter(model.transformers), ""))
    classes = sources.transformer(kind) if kind else None
    if not classes:
        return  # another package's, or not to be told from the pipeline's source: known when it is loaded
    for path in plan.paths:
        owner: ast.ClassDef | None = classes[kind]
        atoms = path.split(".") if path else []
        while atoms and owner is not None:
            known = _parts(owner, classes)
            atom = atoms.pop(0)
            if atom != "*" and not atom.lstrip("-").isdigit() and atom not in known:
                what = f"{path}: {owner.name} has no module {atom!r} there{nearest(atom, known)}"
                yield Problem("model.cp_plan", what, "correct the name, or leave it out")
                owner, atoms = None, []
                break
            value = known.get(atom)
            listed = isinstance(value, ast.Call) and _called(value) in LISTS
            if listed and atoms:
                atoms.pop(0)  # a place in the list, or all of them
            owner = _made(value, classes)
        if owner is not None:
            yield from _parameters(path, owner, plan)


def _parts(node: ast.ClassDef, classes: Classes) -> dict[str, ast.expr]:
    """What a class and those it inherits from, in the same file, keep under self."""
    found: dict[str, ast.expr] = {}
    for base in node.bases:
        if (known := classes.get(ast.unparse(base))) is not None:
            found |= _parts(known, classes)
    return found | dict(sources.attributes(node))


def _called(value: ast.Call) -> str:
    return value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")


def _made(value: ast.expr | None, classes: Classes) -> ast.ClassDef | None:
    """The class of a module, or of each module of a list, where the source says so."""
    calls = [each for each in ast.walk(value) if isinstance(each, ast.Call)] if value is not None else []
    made = {name for call in calls if (name := _called(call)) in classes}
    return classes[made.pop()] if len(made) == 1 else None


def _parameters(path: str, owner: ast.ClassDef, plan: Plan) -> Iterator[Problem]:
    forward = sources.method(owner, "forward")
    if forward is None or forward.args.kwarg is not None:
        return
    known = sources.parameters(forward)
    for entry in plan.split.get(path, ()):
        if isinstance(entry.name, str) and entry.name not in known:
            where = f"split.{path or 'the model'}: {owner.name}.forward has no parameter {entry.name!r}"
            yield Problem("model.cp_plan", f"{where}{nearest(entry.name, known)}", "correct the name, or leave it out")
