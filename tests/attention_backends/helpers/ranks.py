"""Gloo ranks that are started once for the whole test session and run many cases.

One world of seven; a case for W ranks runs in a group of the first W. A case is a module-level function
`case(group, **arguments)`; what it returns comes back, one result a rank.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import multiprocessing
import os
import socket
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import connection
from pathlib import Path
from types import ModuleType
from typing import Any

LARGEST = 7
STARTING = 60  # seconds that the ranks themselves have to start
GRACE = 3  # seconds that ranks have to finish once one has failed
DIED = "EOFError: the process died"
STUCK = "still waiting for a rank that has failed"
PATIENCE = 200  # seconds until a rank that waits for a dead one gives up
DEADLINE = 300  # seconds that ranks have for one case, if it sets none: the machine may be busy
HUNG = "hung: no answer by the deadline"


@functools.cache
def _module(path: str) -> ModuleType:
    # By path: pytest's importlib mode gives test modules names that no import statement knows.
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _serve(rank: int, port: int, pipe: Any, largest: int) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=largest, timeout=timedelta(seconds=PATIENCE))
    groups = {
        world: dist.new_group(range(world), timeout=timedelta(seconds=PATIENCE)) for world in range(1, largest + 1)
    }
    with contextlib.suppress(EOFError):  # the session has ended
        while True:
            path, name, world, arguments = pipe.recv()
            try:
                pipe.send((True, getattr(_module(path), name)(groups[world], **arguments)))
            except BaseException as error:
                pipe.send((False, (f"{type(error).__name__}: {error}", traceback.format_exc())))


class Ranks:
    """The pool. It starts at the first case, and anew after a case that failed on some ranks only."""

    def __init__(self, largest: int = LARGEST, start: str = "forkserver") -> None:
        self.largest = largest
        self._context: Any = multiprocessing.get_context(start)  # CUDA wants "spawn": forks can't use it
        self._members: list[tuple[Any, Any]] = []

    def _start(self) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        context = self._context
        context.set_forkserver_preload(["torch", "diffusers", "diffusers.models.transformers.transformer_flux"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for rank in range(self.largest):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, port, theirs, self.largest), daemon=True)
            process.start()
            theirs.close()
            self._members.append((process, ours))

    def stop(self) -> None:
        for process, pipe in self._members:
            pipe.close()
            process.kill()
            process.join()
        self._members.clear()

    def _ask(
        self, case: Callable[..., Any], world: int, arguments: dict[str, Any], deadline: float
    ) -> list[tuple[bool, Any]]:
        """(succeeded, result or (error, traceback)) of each rank, in rank order, by the deadline."""
        if not self._members:
            self._start()
            deadline += STARTING
        end = time.monotonic() + deadline
        members = self._members[:world]
        for _, pipe in members:
            pipe.send((case.__code__.co_filename, case.__name__, world, arguments))
        answers: dict[Any, tuple[bool, Any]] = {}
        waiting = [pipe for _, pipe in members]
        while waiting:
            failed = any(not ok for ok, _ in answers.values())
            left = max(end - time.monotonic(), 0.0)
            ready: list[Any] = connection.wait(waiting, min(GRACE, left) if failed else left)
            for pipe in ready:
                try:
                    answers[pipe] = pipe.recv()
                except EOFError:
                    answers[pipe] = False, (DIED, "the process died (a signal?)")
                waiting.remove(pipe)
            if not ready:
                self.stop()
                stuck = (False, (f"TimeoutError: {STUCK if failed else HUNG}", STUCK if failed else HUNG))
                return [answers.get(pipe, stuck) for _, pipe in members]
        return [answers[pipe] for _, pipe in members]

    def run(self, case: Callable[..., Any], world: int, *, deadline: float = DEADLINE, **arguments: Any) -> list[Any]:
        """Results of `case` on `world` ranks, in rank order. The first failure ends the test."""
        answers = self._ask(case, world, arguments, deadline)
        failures = [
            (rank, answer[1]) for rank, (fine, answer) in enumerate((ok, (0, a)) for ok, a in answers) if not fine
        ]
        if failures:
            self.stop()
            failures.sort(key=lambda failure: "Connection" in failure[1][0] or "TimeoutError" in failure[1][0])
            rank, (_, trace) = failures[0]
            raise AssertionError(f"rank {rank} of {world} failed:\n{trace}")
        return [answer for _, answer in answers]

    def errors(
        self, case: Callable[..., Any], world: int, *, deadline: float = DEADLINE, **arguments: Any
    ) -> list[str | None]:
        """The error ("Type: message") of each rank, None where it succeeded."""
        answers = self._ask(case, world, arguments, deadline)
        if any(ok or answer[0] == DIED for ok, answer in answers):
            self.stop()  # somebody may still be in the middle of an exchange
        return [None if ok else answer[0] for ok, answer in answers]
