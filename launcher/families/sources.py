"""The sources of diffusers' classes, read and not imported: torch and diffusers take seconds."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Classes = Mapping[str, ast.ClassDef]
CLASS = re.compile(
    r"^class (\w+)\b.*?(?=^[^\s#)\]}]|\Z)", re.MULTILINE | re.DOTALL
)  # up to the next line at the margin


class _Classes(Mapping[str, ast.ClassDef]):
    """The classes of source texts by their names, each of them parsed when it is asked for: a file takes 20 ms.

    Args:
        texts: the last one's class counts where two have the same name.
    """

    def __init__(self, *texts: str) -> None:
        self._places = {found[1]: (text, found[0]) for text in texts for found in CLASS.finditer(text)}
        self._parsed: dict[str, ast.ClassDef] = {}

    def __getitem__(self, name: str) -> ast.ClassDef:
        if name not in self._parsed:
            text, own = self._places[name]
            try:
                nodes = ast.parse(own).body
            except SyntaxError:  # a text within it has lines at the margin
                nodes = ast.parse(text).body
            made = [node for node in nodes if isinstance(node, ast.ClassDef) and node.name == name]
            if not made:  # the word class of a text
                raise KeyError(name)
            self._parsed[name] = made[-1]
        return self._parsed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class _NoDefault:
    """Stands for a parameter that has to be given, or whose default is no plain value."""


REQUIRED = _NoDefault()


def _roots() -> list[Path]:
    found = importlib.util.find_spec("diffusers")
    roots = [Path(root) for root in (found.submodule_search_locations or [])] if found else []
    return [root for root in roots if (root / "pipelines" / "__init__.py").is_file()]  # else it is none: a rule tells


@functools.cache
def transformer(kind: str) -> Classes | None:
    """The classes of the file of diffusers that defines this model, and of the blocks that several share."""
    for root in _roots():
        for path in sorted((root / "models").glob("*/*.py")):
            text = path.read_text(encoding="utf-8")
            if f"class {kind}(" in text:
                common = (root / "models" / "attention.py").read_text(encoding="utf-8")
                classes = _Classes(common, text)
                return classes if kind in classes else None
    return None


@functools.cache
def pipelines() -> dict[str, str]:
    """Every pipeline of diffusers and the folder it stands in, by the table that diffusers imports them from."""
    found: dict[str, str] = {}
    for root in _roots():
        rooms = (root / "pipelines" / "__init__.py").read_text(encoding="utf-8").split('_import_structure["')[1:]
        for room in rooms:
            folder, _, rest = room.partition('"]')
            found |= dict.fromkeys(re.findall(r'"(\w+(?:Pipeline|PipelineBase))"', rest), folder)
        text = (root / "__init__.py").read_text(encoding="utf-8")  # modular ones have no folder there
        found |= dict.fromkeys(re.findall(r'"(\w+ModularPipeline)"', text), "")
    return found


@functools.cache
def pipeline(kind: str) -> ast.ClassDef | None:
    """The class of a pipeline."""
    return _Classes(_pipeline_file(kind)).get(kind)


@functools.cache
def _pipeline_file(kind: str) -> str:
    """The text of the file of diffusers that defines a pipeline; "" where none does."""
    for root in _roots():
        for path in sorted((root / "pipelines" / pipelines().get(kind, "")).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if f"class {kind}(" in text:
                return text
    return ""


@functools.cache
def scheduler(kind: str) -> ast.ClassDef | None:
    """The class of a scheduler."""
    for root in _roots():
        for path in sorted((root / "schedulers").glob("*.py")):
            text = path.read_text(encoding="utf-8")
            if f"class {kind}(" in text:
                return _Classes(text).get(kind)
    return None


def gives_sigmas(node: ast.ClassDef) -> bool:
    """Whether a pipeline makes the sigmas itself and gives them to any scheduler; some ask for `use_flow_sigmas`."""
    call = method(node, "__call__")
    made = False
    for each in ast.walk(call) if call is not None else ():
        if isinstance(each, ast.Constant) and each.value == "use_flow_sigmas":
            return False
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "sigmas":
            made = made or any(isinstance(inner, ast.Call) for inner in ast.walk(each.value))
    return made


def multiple(node: ast.ClassDef) -> int:
    """What a pipeline says that a height must be a multiple of, where it does by a plain number; else 1."""
    for each in ast.walk(node):
        if isinstance(each, ast.BinOp) and isinstance(each.op, ast.Mod) and ast.unparse(each.left) == "height":
            number = _plain(each.right)
            if type(number) is int and number > 0:
                return number
    return 1


def gives_mu(node: ast.ClassDef) -> bool:
    """Whether a pipeline gives its scheduler a shift that depends on the size."""
    return any(isinstance(each, ast.keyword) and each.arg == "mu" for each in ast.walk(node))


def gives_times(kind: str) -> bool:
    """Whether a pipeline has times of its own for each token, which `FlowMatchEulerDiscreteScheduler` alone takes."""
    if "per_token_timesteps" not in _pipeline_file(kind) or (node := pipeline(kind)) is None:  # to walk it takes 5 ms
        return False
    return any(isinstance(each, ast.keyword) and each.arg == "per_token_timesteps" for each in ast.walk(node))


def gives_whole_times(kind: str) -> bool:
    """Whether a pipeline has times for each frame, whole numbers, which `FlowMatchEulerDiscreteScheduler` refuses."""
    return "def generate_timestep_matrix(" in _pipeline_file(kind)


def method(node: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    """A method of a class, by its name."""
    return next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == name), None)


def attributes(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    """self.NAME = VALUE of a class's __init__."""
    init = method(node, "__init__")
    for each in ast.walk(init) if init else ():
        if isinstance(each, ast.Assign) and isinstance(target := each.targets[0], ast.Attribute):
            yield target.attr, each.value


def parameters(function: ast.FunctionDef) -> dict[str, Any]:
    """The parameters of a method but for `self`, with their defaults; REQUIRED where there is no plain one."""
    names = [argument.arg for argument in function.args.args]
    defaults = [REQUIRED] * (len(names) - len(function.args.defaults)) + [
        _plain(each) for each in function.args.defaults
    ]
    found = dict(zip(names, defaults, strict=True))
    found |= {
        argument.arg: REQUIRED if default is None else _plain(default)
        for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    }
    found.pop("self", None)
    return found


def _plain(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return REQUIRED


def parts(kind: str) -> list[str]:
    """The names of a pipeline's parts, those of its constructor; none where its source is not diffusers'."""
    node = pipeline(kind)
    init = method(node, "__init__") if node is not None else None
    return list(parameters(init)) if init is not None and init.args.kwarg is None else []


def part_of(kind: str, name: str) -> str:
    """The class of a part of a pipeline, by the annotation in its constructor; "" where it is not clear."""
    node = pipeline(kind)
    init = method(node, "__init__") if node is not None else None
    for argument in init.args.args if init is not None else ():
        if argument.arg == name and argument.annotation is not None:
            names = [each.id for each in ast.walk(argument.annotation) if isinstance(each, ast.Name)]
            return names[0] if len(names) == 1 else ""  # X, or X | None
    return ""


def has_own_plan(kind: str) -> bool:
    """Whether a model's class, or one that it inherits from in its file, brings a context-parallel plan."""
    classes = transformer(kind)
    wanted = [kind]
    while classes and wanted:
        node = classes.get(wanted.pop())
        for each in node.body if node else ():
            if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "_cp_plan":
                return not (isinstance(each.value, ast.Constant) and each.value.value is None)
        wanted += [ast.unparse(base) for base in node.bases] if node else []
    return False
