"""Line coverage of launcher/ in every process of the tests, ranks included. Python imports this file by itself, early.

`make test` puts this folder on PYTHONPATH and names the folder for the results in COVERAGE_FOLDER; report.py adds them
up. A process that is killed leaves no result.

SlipCover, because it costs a few percent of the tests' time: on Python 3.11 coverage.py nearly doubles that of the fast
ones. attention_backends and COMPILED are not measured, for torch.compile cannot trace functions that are.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import NoReturn

from slipcover import Slipcover

COMPILED = "launcher.worker.compiling"
LAUNCHER = Path(__file__).parents[2] / "launcher"
measured = Slipcover()


class Loader(SourceFileLoader):
    """Loads a module whose lines are counted; `python -m` calls `get_code` too."""

    def get_code(self, fullname: str) -> CodeType | None:
        code = super().get_code(fullname)
        return code and measured.instrument(code)


class Finder:
    """Finds the launcher's modules as the other finders do, and has them measured."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] != "launcher" or name == COMPILED:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec and spec.origin and isinstance(spec.loader, SourceFileLoader) and LAUNCHER in Path(spec.origin).parents:
            spec.loader = Loader(name, spec.origin)
        return spec


def measure(folder: Path) -> None:
    """From now on, and leave the lines that ran in a file of this process' own."""
    end = os._exit

    def write() -> None:
        with contextlib.suppress(OSError, MemoryError):  # tests take disks and memory away
            files = measured.get_coverage()["files"].items()
            lines = {str(Path(name).absolute()): file["executed_lines"] for name, file in files}
            (folder / f"{os.getpid()}-{time.monotonic_ns()}.json").write_text(json.dumps(lines))

    def write_and_exit(code: int) -> NoReturn:  # ranks and forked processes end by this, without `atexit`
        try:
            write()
        finally:
            end(code)

    sys.meta_path.insert(0, Finder())
    atexit.register(write)
    os._exit = write_and_exit


if "COVERAGE_FOLDER" in os.environ:
    measure(Path(os.environ["COVERAGE_FOLDER"]))
