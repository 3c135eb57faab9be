"""Work dealt to several groups of ranks at once, each with its part of the machine (`data=`)."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from launcher.leaving import SIGNAL
from launcher.machines import part
from launcher.problems import Interrupted
from launcher.request.request import Request
from launcher.running.progress import Board, Progress


def placed(request: Request, group: int) -> Request:
    """A request of the first group as that of another one: on its own GPUs."""
    if not request.devices or request.groups == 1:
        return request
    gpus = part(request.whole, request.groups, request.config.runtime.devices, group).gpus
    own = tuple(gpu.index for gpu in gpus[: len(request.devices)])
    return dataclasses.replace(request, machine=dataclasses.replace(request.machine, gpus=gpus), devices=own)


def together(requests: Sequence[Request]) -> Request:
    """The requests of all groups as one, on all their devices, for the record."""
    devices = tuple(index for each in requests for index in each.devices)
    return dataclasses.replace(requests[0], machine=requests[0].whole, devices=devices)


class Shared:
    """The screen for jobs of several groups, one at a time; it ends those that are left when the others were ended.

    Args:
        board: what is drawn.
    """

    def __init__(self, board: Board) -> None:
        self._board, self._lock = board, threading.Lock()
        self.stopped = threading.Event()

    def job(self, group: int, what: str, steps: int) -> Progress:
        """A group begins a job."""
        with self._lock:
            return _Guarded(self._board.job(group, what, steps), self._lock, self.stopped)

    @contextlib.contextmanager
    def cleared(self) -> Iterator[None]:
        """Let nothing be drawn while something else is said."""
        with self._lock:
            yield

    def close(self) -> None:
        """All have ended."""
        self._board.close()


class _Guarded:
    """The progress of one of several jobs."""

    def __init__(self, progress: Progress, lock: threading.Lock, stopped: threading.Event) -> None:
        self._progress, self._lock, self._stopped = progress, lock, stopped

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise Interrupted(signal.SIGINT)

    def at(self, stage: str) -> None:
        self._go_on()
        with self._lock:
            self._progress.at(stage)

    def tick(self) -> None:
        self._go_on()
        with self._lock:
            self._progress.tick()

    def step(self) -> None:
        self._go_on()
        with self._lock:
            self._progress.step()

    def close(self) -> None:
        with self._lock:
            self._progress.close()


def in_order(jobs: Mapping[int, Hashable]) -> list[int]:
    """The jobs of one group, those that can use the same ranks one after another: each kind is loaded once."""
    first: dict[Hashable, int] = {}
    return sorted(jobs, key=lambda number: (first.setdefault(jobs[number], len(first)), number))


def deal(
    jobs: Mapping[int, Hashable],
    groups: int,
    run: Callable[[int, int], None],
    ended: Callable[[int], bool],
    stopped: threading.Event,
) -> None:
    """Run jobs on several groups at once, each in a thread of its own, until none is left.

    A group goes on with jobs like its last one while there are any. Then it takes the kind of most jobs that no group
    is at, and at last helps with another group's kind: a group that has loaded something only if more is left of it
    than groups are at it, for another load would save less than one job's time.

    Args:
        jobs: by number, and what those that can use the same ranks have in common.
        run: runs a job, by its number, on a group, by its number.
        ended: is told of each job that has ended, in this thread; true: start no more.
        stopped: set when an error, or a signal, comes through: whoever runs a job ends it then.

    Raises:
        Interrupted: a signal came; where it asks for the end after a picture, each group has ended its own.
    """
    left, free = dict(jobs), list(range(groups))
    last: dict[int, Hashable] = {}
    working: dict[Future[None], tuple[int, int]] = {}
    leaving: Interrupted | None = None
    with ThreadPoolExecutor(groups, thread_name_prefix="group") as threads:
        try:
            while left or working:
                for group in sorted(free, key=lambda each: last.get(each) not in left.values()):  # those that go on
                    number = next_job(left, last, group, {at for _, at in working.values()})
                    if number is not None:
                        free.remove(group)
                        last[group] = left.pop(number)
                        working[threads.submit(run, number, group)] = number, group
                done, _ = wait(working, return_when=FIRST_COMPLETED)
                for future in done:
                    number, group = working.pop(future)
                    free.append(group)
                    try:
                        future.result()
                    except Interrupted as error:
                        if error.signum != SIGNAL:
                            raise
                        leaving = error  # after a picture of this group; the others are in the middle of theirs
                        left.clear()
                        continue
                    if ended(number):
                        left.clear()
        except BaseException:
            stopped.set()
            raise
    if leaving is not None:
        raise leaving


def next_job(left: Mapping[int, Hashable], last: Mapping[int, Hashable], group: int, busy: set[int]) -> int | None:
    """The job that a free group takes; None: it is not needed any more."""
    kinds = Counter(left.values())
    at = Counter(last[each] for each in busy)
    fresh = [kind for kind in kinds if not at[kind]]
    shared = [kind for kind in kinds if group not in last or kinds[kind] > at[kind]]
    kind = last[group] if last.get(group) in kinds else max(fresh or shared, key=kinds.__getitem__, default=None)
    return next((number for number, each in left.items() if kind is not None and each == kind), None)
