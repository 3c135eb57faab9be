"""The jobs of a sweep dealt to several groups of ranks at once, each with its part of the machine (`data=`)."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from launcher.config.schema import LaunchConfig
from launcher.machines import Machine
from launcher.problems import Interrupted, Problem, Refused
from launcher.request.request import Request
from launcher.running.progress import Progress
from launcher.wording import plural

AUTO = "auto"


def groups_of(typed: str, machine: Machine) -> int | None:
    """How many groups `data=` asks for; None for auto.

    Raises:
        Refused: it is neither, or more than there are devices on which one rank each could run.
    """
    value = f"data={typed}"
    if typed == AUTO:
        return None
    if not typed.isascii() or not typed.isdigit() or int(typed) < 1:
        raise Refused([Problem(value, "takes a whole number of groups from 1, or auto", "type data=2 or data=auto")])
    devices, what = _devices(machine)
    if int(typed) > devices:
        instead = f"type data={devices} or less, or data=auto"
        raise Refused([Problem(value, f"{typed} groups have {plural(devices, what)} to share", instead)])
    return int(typed)


def fitting(requests: list[Request], machine: Machine) -> int:
    """As many groups as fill the machine with jobs of so many ranks, but no more than there are jobs."""
    ranks = max((request.mesh.ranks for request in requests), default=1)
    return max(1, min(_devices(machine)[0] // max(1, ranks), len(requests)))


def _devices(machine: Machine) -> tuple[int, str]:
    return (len(machine.gpus), "GPU") if machine.gpus else (machine.cores, "core")


def part(machine: Machine, groups: int) -> Machine:
    """What each group has of a machine: as many GPUs and cores, and as much memory, as the others."""
    gpus = machine.gpus[: len(machine.gpus) // groups] if machine.gpus else ()
    share = dataclasses.replace(
        machine,
        cores=max(1, machine.cores // groups),
        gpus=gpus,
        memory_gib=machine.memory_gib / groups,
        free_gib=machine.free_gib / groups,
    )
    return dataclasses.replace(share, note=f"{machine.note}, one of {groups} parts (data)") if groups > 1 else share


def chosen(config: LaunchConfig, machine: Machine, groups: int) -> LaunchConfig:
    """The configuration with the GPUs of the first group where it lists those to use.

    Raises:
        Refused: there are fewer than groups.
    """
    listed = config.runtime.devices
    if groups == 1 or not listed:
        return config
    if len(listed) < groups:
        value, rule = f"data={groups}", f"{groups} groups have {plural(len(listed), 'GPU')} of runtime.devices to share"
        raise Refused([Problem(value, rule, f"type data={len(listed)} or less, or data=auto")])
    runtime = dataclasses.replace(config.runtime, devices=listed[: len(listed) // groups])
    return dataclasses.replace(config, runtime=runtime)


def placed(request: Request, machine: Machine, listed: list[int] | None, group: int, groups: int) -> Request:
    """A request of the first group as that of another one: on its own GPUs."""
    if not request.devices or groups == 1:
        return request
    everyone = listed or [gpu.index for gpu in machine.gpus]
    first = group * (len(everyone) // groups)
    own = tuple(everyone[first : first + len(request.devices)])
    if not listed:
        return dataclasses.replace(request, devices=own)
    runtime = dataclasses.replace(request.config.runtime, devices=list(everyone[first:][: len(everyone) // groups]))
    return dataclasses.replace(request, devices=own, config=dataclasses.replace(request.config, runtime=runtime))


class Shared:
    """One progress for the jobs of all groups, counted in their steps; it ends the jobs of an interrupted sweep."""

    def __init__(self, progress: Progress, stopped: threading.Event) -> None:
        self._progress, self._stopped, self._lock = progress, stopped, threading.Lock()

    @contextlib.contextmanager
    def cleared(self) -> Iterator[None]:
        """Let nothing be drawn while something else is said."""
        with self._lock:
            yield

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise Interrupted(signal.SIGINT)

    def at(self, stage: str) -> None:
        """A job enters a stage, which is not told: others are in other ones."""
        self._go_on()

    def tick(self) -> None:
        """Time went by."""
        self._go_on()
        with self._lock:
            self._progress.tick()

    def step(self) -> None:
        """A job has done a step more."""
        self._go_on()
        with self._lock:
            self._progress.step()

    def close(self) -> None:
        """A job has ended; the others go on."""


def deal(
    jobs: Mapping[int, Hashable],
    groups: int,
    run: Callable[[int, int], None],
    ended: Callable[[int], bool],
    stopped: threading.Event,
) -> None:
    """Run jobs on several groups at once, each in a thread of its own, until none is left.

    A group goes on with a job like its last one, while there is any, and else takes the kind of most jobs that are
    left: so weights are loaded as seldom as that can be.

    Args:
        jobs: by number, and what those that can use the same ranks have in common.
        run: runs a job, by its number, on a group, by its number.
        ended: is told of each job that has ended, in this thread; true: start no more.
        stopped: set when an error, or a signal, comes through: whoever runs a job ends it then.
    """
    left, free = dict(jobs), list(range(groups))
    last: dict[int, Hashable] = {}
    working: dict[Future[None], tuple[int, int]] = {}
    with ThreadPoolExecutor(groups, thread_name_prefix="group") as threads:
        try:
            while left or working:
                while left and free:
                    group = free.pop(0)
                    kinds = Counter(left.values())
                    kind = last[group] if last.get(group) in kinds else kinds.most_common(1)[0][0]
                    number = next(number for number, each in left.items() if each == kind)
                    del left[number]
                    last[group] = kind
                    working[threads.submit(run, number, group)] = number, group
                done, _ = wait(working, return_when=FIRST_COMPLETED)
                for future in done:
                    number, group = working.pop(future)
                    free.append(group)
                    future.result()
                    if ended(number):
                        left.clear()
        except BaseException:
            stopped.set()
            raise
