"""What an import of this package brings along, and that its rooms import in one direction."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import attention_backends

PACKAGE = Path(attention_backends.__file__).parent


@pytest.mark.parametrize("module", ["", ".catalog", ".layout", ".cost", ".header"])
def test_tables_and_arithmetic_need_no_torch(module):
    check = f"import sys, attention_backends{module}; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def imported(path: Path) -> set[str]:
    """Full names that a file imports, type checking and functions included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


FILES = [path for path in PACKAGE.rglob("*.py") if "build" not in path.parts]


def test_no_file_imports_one_that_imports_it():
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in FILES
    }
    graph = {
        name: {other for other in imported(path) if other in modules and other != name}
        for name, path in modules.items()
        if name != "attention_backends"  # its names are imported on their first use
    }
    # A room's __init__ collects what its files offer: an import of a file by that file's siblings is not one of it.
    for name in graph:
        graph[name] = {
            other
            for other in graph[name]
            if other != "attention_backends" and not (name.startswith(f"{other}.") or other == name)
        }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_only_one_room_imports_diffusers_privately():
    for path in FILES:
        inside = path.parent.name == "diffusers_seam"
        theirs = {name for name in imported(path) if name.split(".")[0] == "diffusers"}
        public = {"diffusers", "diffusers.FluxTransformer2DModel"}  # the benchmark's step
        assert inside or theirs <= public, path


def test_only_torch_and_diffusers_are_imported():
    allowed = {"attention_backends", "torch", "diffusers", "triton", *sys.stdlib_module_names}
    for path in FILES:
        assert {name.split(".")[0] for name in imported(path)} <= allowed, path
