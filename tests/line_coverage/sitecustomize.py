"""Line coverage of launcher/ in every process of the tests, ranks included. Python imports this file by itself, early.

`make test` puts this folder on PYTHONPATH and names the folder for the results in COVERAGE_FOLDER; report.py adds them
up. A process that is killed leaves no result.

The tests start hundreds of processes, so that a start must cost next to nothing: on Python 3.11 SlipCover's editor puts
a call before each line, and the first process to load a module keeps what came of it for the others. Python itself
tells of lines from 3.12 on. attention_backends and COMPILED are not measured, for torch.compile cannot trace functions
that are.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import marshal
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import NoReturn

COMPILED = "launcher.worker.compiling"
LAUNCHER = Path(__file__).parents[2] / "launcher"
MARK = "line_coverage: in place of what notes a line"
ran: defaultdict[str, set[int]] = defaultdict(set)  # lines, by file


def inner(code: CodeType) -> list[CodeType]:
    return [each for each in code.co_consts if isinstance(each, CodeType)]


if sys.version_info >= (3, 12):

    def note(code: CodeType, line: int) -> object:
        ran[code.co_filename].add(line)
        return sys.monitoring.DISABLE

    def counted(code: CodeType, kept: Path) -> CodeType:
        """The code, whose lines are told once each."""
        sys.monitoring.set_local_events(sys.monitoring.COVERAGE_ID, code, sys.monitoring.events.LINE)
        for each in inner(code):
            counted(each, kept)
        return code

    def prepare() -> None:
        sys.monitoring.use_tool_id(sys.monitoring.COVERAGE_ID, __name__)
        sys.monitoring.register_callback(sys.monitoring.COVERAGE_ID, sys.monitoring.events.LINE, note)

else:  # imported now, for a test looks at what commands import
    from slipcover import bytecode
    from slipcover.slipcover import findlinestarts

    def marked(code: CodeType) -> CodeType:
        """The code with a call of MARK before each line."""
        edit, added = bytecode.Editor(code), 0
        for number, each in enumerate(code.co_consts):
            if isinstance(each, CodeType):
                edit.set_const(number, marked(each))
        mark = edit.add_const(MARK)
        for offset, line in list(findlinestarts(code)):
            while offset >= 2 and code.co_code[offset - 2] == bytecode.op_EXTENDED_ARG:  # belongs to what follows it
                offset += 2
            added += edit.insert_function_call(offset + added, mark, (edit.add_const(line),))
        return edit.finish()

    def alive(code: CodeType) -> CodeType:
        """Marked code, whose calls note their lines."""
        parts: dict[object, object] = {MARK: ran[code.co_filename].add}
        parts |= {each: alive(each) for each in inner(code)}
        return code.replace(co_consts=tuple(parts.get(each, each) for each in code.co_consts))

    def counted(code: CodeType, kept: Path) -> CodeType:
        """The code, whose lines are noted; `kept` is where processes share it."""
        try:
            found = marshal.loads(kept.read_bytes())
        except OSError:
            found, own = marked(code), kept.with_name(f"{kept.name}.{os.getpid()}")
            with contextlib.suppress(OSError):
                own.write_bytes(marshal.dumps(found))
                own.replace(kept)
        return alive(found)

    def prepare() -> None:
        pass


class Loader(SourceFileLoader):
    """Loads a module whose lines are counted; `python -m` calls `get_code` too."""

    folder: Path

    def get_code(self, fullname: str) -> CodeType | None:
        code = super().get_code(fullname)
        return code and counted(code, self.folder / f"{fullname}.code")


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
    end, Loader.folder = os._exit, folder
    prepare()

    def write() -> None:
        with contextlib.suppress(OSError, MemoryError):  # tests take disks and memory away
            lines = {str(Path(name).absolute()): sorted(numbers) for name, numbers in ran.copy().items()}
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
