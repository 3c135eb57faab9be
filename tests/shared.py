"""What tests share: the launcher as a user runs it, and machines to plan for."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from launcher.gpus import Gpu
from launcher.machines import Machine
from launcher.records.json_schema import FILE
from launcher.records.record import SCHEMA, Crop, Frames, Pixels, Recipe, Record, Sizes
from launcher.wire.jobs import Job, Load, Picture, Sharing

ROOT = Path(__file__).parent.parent
LAPTOP = Machine(cores=2)
GPUS = Machine(cores=16, gpus=tuple(Gpu(index, "NVIDIA H100 80GB HBM3", 81559) for index in range(4)))


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str
    folder: Path  # where its runs are

    @property
    def runs(self) -> list[Path]:
        """Run directories, oldest first."""
        return sorted(
            (record.parent for record in self.folder.rglob("run.json")), key=lambda path: path.stat().st_ctime
        )


@functools.cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(FILE.read_text()))


def validated(folder: Path) -> None:
    """Hold every record of this version below a folder against the schema that is shipped."""
    for path in folder.rglob("run.json"):
        try:
            data = json.loads(path.read_text())
        except (OSError, ValueError):  # claimed and not written yet, or broken by a test
            continue
        if isinstance(data, dict) and data.get("schema") == SCHEMA:
            _validator().validate(data)


def a_recipe(**changes: Any) -> Recipe:
    """A recipe, with some fields changed."""
    recipe = Recipe(SCHEMA, {"prompt": "a cat", "seed": 1}, (0, 0, 16, 16), {"launcher": "0"})
    return dataclasses.replace(recipe, **changes)


def a_record(**changes: Any) -> Record:
    """The first record of a run, with some fields changed."""
    size = Pixels(16, 16)
    record = Record(
        schema=SCHEMA,
        status="running",
        started="2026-01-01T00:00:00+00:00",
        command="python -m launcher",
        overrides=(),
        config={},
        prompts=("a cat",),
        seed=1,
        size=Sizes(size, size, Crop(0, 0, 16, 16)),
        frames=Frames(None, None, None),
        text_tokens=None,
        tokens_per_rank=({"image": 1},),
        devices=("cpu",),
        versions={},
        files=(),
    )
    return dataclasses.replace(record, **changes)


def a_job(**changes: Any) -> Job:
    """A job for one rank, with some fields changed."""
    job = Job(
        folder="/nowhere",
        load=Load("FluxPipeline", "/nowhere", None, "float32", "cpu", "none", 60.0, "auto"),
        sharing=Sharing("none", 1, 1, "gather", "auto"),
        loras=(),
        threads=(1,),
        cores=1,
        call={"height": 16, "num_inference_steps": 1, "negative_prompt": None},
        seed=1,
        crop=(0, 0, 16, 16),
        frames=None,
        fps=None,
        format="png",
        metadata="full",
        prompts=("a cat",),
        pictures=(Picture(0, 1, "0000.png"),),
        recipe=a_recipe(),
    )
    return dataclasses.replace(job, **changes)


def command(*words: str) -> list[str]:
    """The line that a user types, for this Python."""
    return [sys.executable, "-m", "launcher", *words]


def hermetic(**more: str) -> dict[str, str]:
    """An environment without the user's GPUs and hub token."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "LAUNCHER_"))}
    return kept | {"HF_HUB_OFFLINE": "", "HF_HOME": "/nonexistent", "CUDA_VISIBLE_DEVICES": ""} | more


@dataclass(frozen=True)
class Group:
    """The processes of a group of ranks; one rank alone has no agent that starts it."""

    ranks: dict[int, psutil.Process]
    agent: psutil.Process | None

    @property
    def processes(self) -> list[psutil.Process]:
        return [*self.ranks.values(), *([self.agent] if self.agent else [])]

    def left(self, seconds: float = 0) -> list[psutil.Process]:
        """Those that still run; one that waits to be reaped by the system is gone."""
        psutil.wait_procs(self.processes, timeout=seconds)
        return [process for process in self.processes if _runs(process)]


def group(launcher: psutil.Process) -> Group:
    """The ranks below a launcher, and the process that started them."""
    ranks, agent = {}, None
    for process in launcher.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if process.cmdline()[-2:] == ["-m", "launcher.worker"] or process.cmdline()[-1:] == ["launcher.worker"]:
                if "accelerate.commands.launch" in process.cmdline():
                    agent = process
                else:
                    ranks[int(process.environ().get("RANK", "0"))] = process
    return Group(ranks, agent)


def ports_of(group: Group) -> set[tuple[str, int]]:
    """The addresses and ports that the processes of a group listen on, of the network."""
    found: set[tuple[str, int]] = set()
    for process in group.processes:
        with contextlib.suppress(psutil.Error):
            ports = [one.laddr for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
            found |= {(port.ip, port.port) for port in ports}
    return found


def listening(group: Group) -> set[str]:
    """The addresses alone."""
    return {address for address, _ in ports_of(group)}


def children(since: Iterable[psutil.Process] = ()) -> set[psutil.Process]:
    """Processes below this one, but for those that were there before: other tests keep ranks of their own."""
    return set(psutil.Process().children(recursive=True)) - set(since)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def cause(err: str) -> str:
    """The one line on standard error that says what ended the run."""
    assert "Traceback" not in err, err
    (line,) = [line for line in err.splitlines() if line.startswith("launcher:")]
    return line
