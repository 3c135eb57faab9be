"""Faults with real ranks: one line that names the rank and the cause, a record that tells the truth, nothing left.

The jobs of a sweep meet one fault each. The sweep runs in this process, so that a fault strikes at the very moment at
which the launcher hears of a stage, and so that each next job shows that a sweep goes on after the fault before.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import resource
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from shared import Group, group, hermetic, listening
from strangers import Strangers

import launcher.cli.progress
from launcher.cli.main import main
from launcher.cli.progress import Bar
from launcher.records.files import sha256

pytestmark = pytest.mark.slow

STALL = 20  # seconds, runtime.stall_timeout of these sweeps: ranks of a busy machine are late
LIMIT = 60  # seconds from a fault to its line; 1 to 3 on a machine that has nothing else to do


@dataclass(frozen=True)
class Fault:
    """What strikes when the launcher hears that rank 0 enters a stage; at its second visit the first picture stands."""

    stage: str
    strike: Callable[[Group, Path], object]
    says: str
    limit: float = LIMIT
    visit: int = 2


@dataclass
class Struck:
    """What came of it."""

    folder: Path
    group: Group = field(default_factory=lambda: Group({}, None))
    at: float = 0.0
    seconds: float = float("inf")
    left: list[psutil.Process] = field(default_factory=list)
    line: str = ""
    listening: set[str] = field(default_factory=set)  # addresses


def send(rank: int, signum: int) -> Callable[[Group, Path], object]:
    return lambda group, _: group.ranks[rank].send_signal(signum)


def kill_half_way(group: Group, folder: Path) -> None:
    """Rank 0 dies with a half-written picture on the disk."""
    end = time.monotonic() + 5
    while not list(folder.glob(".0001.png.*.tmp")) and time.monotonic() < end:
        pass
    group.ranks[0].kill()


def fill_disk(group: Group, _: Path) -> None:
    """From now on a file of rank 0 ends at 16 kB: part of it is written, then an OSError comes, as on a full disk."""
    resource.prlimit(group.ranks[0].pid, resource.RLIMIT_FSIZE, (16_000, resource.RLIM_INFINITY))


def take_memory(group: Group, _: Path) -> None:
    """From now on the last rank gets no more address space than it has."""
    resource.prlimit(group.ranks[max(group.ranks)].pid, resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))


def kill_agent(group: Group, _: Path) -> None:
    """The process that started the ranks dies while a rank is far from done: a job that is done needs it no more."""
    assert group.agent is not None
    group.ranks[1].suspend()
    group.agent.kill()


def end_agent(group: Group, _: Path) -> None:
    assert group.agent is not None
    group.agent.terminate()


def step_clock(_group: Group, _folder: Path) -> None:
    """From now on the launcher's clock steps by a day, forth and back, each time that it is read: no fault at all."""
    real, days = time.time, itertools.cycle((86_400, -86_400))
    time.time = lambda: real() + next(days)


WHOLE = "FAMILY_SAMPLES" in os.environ  # without it, one fault of each kind
STRANGERS = Strangers()
AGENT = "the process that starts the ranks: killed by SIGKILL"
TWO = {
    "killed while importing": Fault("importing", send(1, signal.SIGKILL), "rank 1: killed by SIGKILL", visit=1),
    "killed while loading": Fault("loading", send(0, signal.SIGKILL), "rank 0: killed by SIGKILL", visit=1),
    "killed while denoising": Fault("denoising", send(1, signal.SIGKILL), "rank 1: killed by SIGKILL"),
    "told to end": Fault("denoising", send(1, signal.SIGTERM), "rank 1: killed by SIGTERM"),
    "killed while decoding": Fault("decoding", send(0, signal.SIGKILL), "rank 0: killed by SIGKILL"),
    "killed while saving": Fault("saving", kill_half_way, "rank 0: killed by SIGKILL"),
    "out of memory": Fault("loading", take_memory, "rank 1: ", visit=1),  # steps take what the first one freed
    "agent killed": Fault("denoising", kill_agent, AGENT),
    "agent told to end": Fault(
        "denoising",
        end_agent,
        "the process that starts the ranks: ended with exit code 1: ",
    ),
    "stopped": Fault(
        "denoising",
        send(1, signal.SIGSTOP),
        f"rank 1: no sign of life within runtime.stall_timeout={STALL} s",
        STALL + LIMIT,
        visit=1,  # while much is left to do: a rank that is done with its job may be stopped
    ),
    "strangers": Fault("starting", STRANGERS, "", visit=1),
}
ONE = {
    "segfault": Fault("decoding", send(0, signal.SIGSEGV), "rank 0: killed by SIGSEGV"),
    "disk full": Fault("denoising", fill_disk, "rank 0: File too large"),
    "folder removed": Fault("denoising", lambda _, folder: shutil.rmtree(folder), "rank 0: No such file or directory"),
    "clock steps": Fault("denoising", step_clock, "", visit=1),
}
ALIKE = ("killed while loading", "told to end", "killed while decoding", "agent told to end")
TWO = {name: fault for name, fault in TWO.items() if WHOLE or name not in ALIKE}


def interrupt(_group: Group, _folder: Path) -> None:
    """Ctrl-C, once the strangers of the job before, whose ranks these are, have been everywhere."""
    STRANGERS.done.wait(LIMIT)
    os.kill(os.getpid(), signal.SIGINT)


INTERRUPT = Fault("denoising", interrupt, "")


class Screen(io.StringIO):
    """Standard output that notes when a job's line comes."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        super().__init__()
        self.on_line = on_line

    def write(self, text: str) -> int:
        if text.startswith("["):
            self.on_line(text)
        return super().write(text)


@dataclass
class Swept:
    """A sweep of faults and what came of each."""

    code: int
    screen: str
    errors: str
    folder: Path
    jobs: list[Struck]
    shared_memory: set[str]


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()


def sweep(faults: list[Fault], place: Path, *words: str) -> Swept:
    """Run a sweep in `place`, a job a fault and one more; temporary files go to place/tmp."""
    jobs: list[Struck] = []
    entered: list[str] = []
    shared = shared_memory()

    class Watched(Bar):
        def at(self, stage: str) -> None:
            if stage == "starting":
                (folder,) = (path.parent for path in (place / "outputs").rglob("multirun.yaml"))
                jobs.append(Struck(folder / str(len(jobs))))
                entered.clear()
            if stage != self.stage:
                entered.append(stage)
                fault = faults[len(jobs) - 1] if len(jobs) <= len(faults) else None
                if fault and stage == fault.stage and entered.count(stage) == fault.visit:
                    struck = jobs[-1]
                    struck.group, struck.at = group(psutil.Process()), time.monotonic()
                    fault.strike(struck.group, struck.folder)
                elif stage == "denoising" and entered.count(stage) == 1:
                    jobs[-1].listening = listening(group(psutil.Process()))
            super().at(stage)

    def ended(line: str) -> None:
        jobs[-1].seconds = time.monotonic() - jobs[-1].at
        jobs[-1].line, jobs[-1].left = line, jobs[-1].group.left()

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name, value in hermetic().items():
            patch.setenv(name, value)
        (place / "tmp").mkdir()
        patch.setenv("TMPDIR", str(place / "tmp"))
        patch.setattr(tempfile, "tempdir", None)
        patch.setattr(time, "time", time.time)  # to be put back
        patch.setattr(launcher.cli.progress, "Bar", Watched)
        screen, errors = Screen(ended), io.StringIO()
        seeds = ",".join(map(str, range(len(faults) + 1)))
        size = ["height=512", "width=512", "steps=2", "images=2"]
        common = ["runtime=cpu", *size, f"runtime.stall_timeout={STALL}", f"seed={seeds}"]
        with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(errors):
            code = main(["-m", *common, *words])
        (multirun,) = (place / "outputs").rglob("multirun.yaml")
    # What other programs of this machine have there comes and goes.
    ends = time.monotonic() + 10
    while (left := shared_memory() - shared) and time.monotonic() < ends:
        time.sleep(0.2)
    return Swept(code, screen.getvalue(), errors.getvalue(), multirun.parent, jobs, left)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Swept:
    """Two ranks; another program holds the port that torch and accelerate take by default."""
    with socket.socket() as other:
        with contextlib.suppress(OSError):  # some other program has it
            other.bind(("", 29500))
            other.listen()
        return sweep([*TWO.values(), INTERRUPT], tmp_path_factory.mktemp("two"), "cp=ring_anything")


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Swept:
    """One rank, which the launcher starts itself."""
    return sweep(list(ONE.values()), tmp_path_factory.mktemp("one"), "cp=none")


def told(swept: Swept) -> list[str]:
    """What standard error shows beside the steps that take seconds, as they do on a busy machine."""
    return [line for line in swept.errors.splitlines() if not line.strip().startswith("step ")]


def by_name(swept: Swept, faults: dict[str, Fault]) -> Iterator[tuple[str, Struck]]:
    return zip(faults, swept.jobs, strict=False)


@pytest.mark.parametrize("name", [name for name, fault in (TWO | ONE).items() if fault.says])
def test_a_fault_is_told_in_one_line_and_leaves_nothing(request, name):
    faults, swept = (TWO, "two") if name in TWO else (ONE, "one")
    fault, struck = faults[name], dict(by_name(request.getfixturevalue(swept), faults))[name]
    said = struck.line.split("failed  ")[1].strip()
    assert said.startswith(fault.says)
    assert "\n" not in said
    assert struck.seconds < fault.limit
    assert struck.left == []  # when the line comes, not 5 s later
    if name == "folder removed":
        assert said.endswith("the run's folder was removed while it ran")
        assert not struck.folder.exists()
        return
    record = json.loads((struck.folder / "run.json").read_text())
    assert record["status"] == "failed"
    assert record["error"].startswith(fault.says)
    assert str(struck.folder.absolute()) not in record["error"]
    pictures = ["0000.png"] if fault.visit == 2 else []
    assert [facts["file"] for facts in record["files"]] == pictures
    assert all(sha256(struck.folder / facts["file"]) == facts["sha256"] for facts in record["files"])
    whole = {".hydra", "logs", "run.json", *pictures}
    assert {path.name for path in struck.folder.iterdir()} == whole  # and nothing half-written


def test_running_out_of_memory_is_told_as_that(two):
    out_of_memory(dict(by_name(two, TWO))["out of memory"])


def out_of_memory(struck: Struck) -> None:
    """What was planned and free, and what to type; C++ that gets none may end without a word."""
    assert struck.left == []
    assert "memory" in struck.line.lower() or "killed by SIGABRT" in struck.line
    if "out of memory" in struck.line:
        assert re.search(
            r"rank 1: out of memory.*; about [\d.]+ GiB a rank were planned, and [\d.]+ GiB were free; type",
            struck.line,
        )


@pytest.mark.skipif(not WHOLE, reason="what is told of it is tested above, and costs new ranks each time")
@pytest.mark.parametrize(
    ("stage", "words"), [("denoising", ["runtime.weights=sharded"]), ("compiling", ["compile=regional"])]
)
def test_it_is_with_sharded_weights_and_with_compile(tmp_path, stage, words):
    swept = sweep([Fault(stage, take_memory, "", visit=1)], tmp_path, "cp=ring_anything", *words)
    out_of_memory(swept.jobs[0])
    assert "  done  " in swept.jobs[1].line


def test_jobs_after_faults_make_their_pictures(one, two):
    for swept, faults, name in ((one, ONE, "clock steps"), (two, TWO, "strangers")):
        struck = dict(by_name(swept, faults))[name]
        assert "  done  " in struck.line
        record = json.loads((struck.folder / "run.json").read_text())
        assert 0 < record["seconds"] < 600
        assert [sha256(struck.folder / f"{number:04d}.png") for number in range(2)] == [
            facts["sha256"] for facts in record["files"]
        ]


def test_the_screen_ends_in_a_table_and_shows_no_traceback(one):
    assert one.code == 1
    assert one.screen.splitlines()[-3] == f"2 done, {len(ONE) - 1} failed"
    assert told(one) == []


def test_ctrl_c_ends_a_sweep(two):
    """The interrupted job says so, the next one is never begun, and the pictures before stay whole."""
    assert two.code == 130
    assert told(two) == ["launcher: interrupted by SIGINT"]
    folder = two.folder.relative_to(two.folder.parent.parent.parent)
    assert two.screen.splitlines()[-1] == f"to run what is missing, add resume={folder} to the same command"
    assert len(two.jobs) == len(TWO) + 1
    interrupted = two.jobs[-1]
    assert json.loads((interrupted.folder / "run.json").read_text())["status"] == "interrupted"
    assert len(interrupted.group.ranks) == 2
    assert interrupted.group.left() == []
    assert not (two.folder / str(len(two.jobs))).exists()


def test_strangers_are_refused_and_logged(two):
    """The ranks of the job came up beside them; nothing that they said was run."""
    struck = dict(by_name(two, TWO))["strangers"]
    assert len(STRANGERS.held) >= 8  # of both ranks
    log = (struck.folder / "logs" / "start.log").read_text()
    assert log.count("launcher: refused a connection: ") == len(STRANGERS.said)
    assert not list(two.folder.parent.parent.parent.rglob("pwned"))


def test_ranks_listen_to_this_machine_alone(one, two):
    """No store of torch's on all interfaces, which has no secret; one rank listens to nobody at all."""
    assert set.union(*(struck.listening for struck in two.jobs)) == {"127.0.0.1"}
    assert set.union(*(struck.listening for struck in one.jobs)) == set()


@pytest.mark.parametrize("swept", ["one", "two"])
def test_no_temporary_file_and_no_shared_memory_is_left(request, swept):
    swept = request.getfixturevalue(swept)
    assert list((swept.folder.parent.parent.parent / "tmp").iterdir()) == []
    assert swept.shared_memory == set()
