"""torch.compile of a pipeline's transformers, with context parallelism on: one graph, of sizes that may change.

What ranks exchange are operators of their own in it (attention_backends/compiled.py). A graph knows the objects that
share the sequence, so what shares it stays on from job to job while nothing but sizes, prompts and seeds change.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch._dynamo.callback import callback_handler
from torch._inductor import cpp_builder

from launcher.compiling import FULL, REGIONAL
from launcher.wire.channel import COMPILED_VARIABLE

_build = cpp_builder.run_compile_cmd
HOW: dict[str, Any] = {"fullgraph": True, "dynamic": True}


@contextlib.contextmanager
def blocks_compiled(transformer: Any, how: str) -> Iterator[None]:
    """With how=regional: have the blocks that a transformer repeats compiled while the block runs, each kind once.

    diffusers' `compile_repeated_blocks` compiles them with the hooks that are put on them; here they are those of what
    shares the sequence, which have to run as they are written. So it is entered before that is enabled.
    """
    if how != REGIONAL:
        yield
        return
    _keep()
    repeated = set(transformer._repeated_blocks)
    kinds = {  # of sharded weights a block's class is one that is made of the repeated one
        type(block) for block in transformer.modules() if repeated & {kind.__name__ for kind in type(block).__mro__}
    }
    fast = {kind: torch.compile(kind.forward, **HOW) for kind in kinds}
    blocks = [block for block in transformer.modules() if type(block) in fast]
    with contextlib.ExitStack() as stack:
        for block in blocks:
            stack.callback(_put(block, MethodType(fast[type(block)], block)))
        stack.callback(torch.compiler.reset)
        yield


@contextlib.contextmanager
def whole_compiled(transformer: Any, how: str) -> Iterator[None]:
    """With how=full: have a transformer compiled as one graph, with what shares its sequence, while the block runs."""
    if how != FULL:
        yield
        return
    _keep()
    forward = transformer.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    with contextlib.ExitStack() as stack:
        stack.callback(_put(transformer, torch.compile(run, **HOW)))
        stack.callback(torch.compiler.reset)
        yield


def _keep() -> None:
    """Have torch's own cache of what it builds outlive this group, where the user has not said where it is."""
    if cpp_builder.run_compile_cmd is not build_whole:
        cpp_builder.run_compile_cmd = build_whole
    place = os.environ.get(COMPILED_VARIABLE)
    if place is not None:
        with contextlib.suppress(OSError):  # no room there
            Path(place).mkdir(mode=0o700, parents=True, exist_ok=True)
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = place


def build_whole(cmd_line: str, cwd: str) -> None:
    """Run a compiler, and give its output the name that later runs look for once it is whole.

    torch has it written under that name: of a run that is killed meanwhile a part would stay, and fail each later one.
    """
    words = shlex.split(cmd_line)
    if "-o" in words:
        place = words.index("-o") + 1
        target, words[place] = Path(cwd, words[place]), str(Path(cwd, Path(words[place]).name))
        _build(shlex.join(words), cwd)
        Path(words[place]).replace(target)
    else:
        _build(cmd_line, cwd)


def _put(module: Any, forward: Callable[..., Any]) -> Callable[[], None]:
    """Replace a module's forward; returns what puts it back."""
    own = vars(module).get("forward")
    module.forward = forward

    def undo() -> None:
        if own is None:
            del module.forward
        else:
            module.forward = own

    return undo


class Compiling:
    """Seconds that torch compiles for, while the block runs; `began` is called when it begins to."""

    def __init__(self, began: Callable[[], None]) -> None:
        self.seconds = 0.0
        self._began, self._since = began, 0.0

    @contextlib.contextmanager
    def timed(self) -> Iterator[Compiling]:
        """Watch what is compiled while the block runs."""
        callback_handler.register_start_callback(self._start)
        callback_handler.register_end_callback(self._end)
        try:
            yield self
        finally:
            callback_handler.remove_start_callback(self._start)
            callback_handler.remove_end_callback(self._end)

    def _start(self, _: object) -> None:
        self._since = time.monotonic()
        self._began()

    def _end(self, _: object) -> None:
        self.seconds += time.monotonic() - self._since
