"""What the launcher and its ranks say to each other; jobs.py has the job, the longest of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from launcher.records.record import Check, File, Scheduler
from launcher.wire.jobs import Job
from launcher.wire.messages import Kinds, Message

VERSION = 5
HEARTBEAT = 1.0  # seconds between two signs of life of a rank that works
# How the cause of a rank begins that had no memory left on its GPU, or in main memory.
OUT_OF_MEMORY = OUT_OF_GPU_MEMORY, OUT_OF_MAIN_MEMORY = "out of GPU memory", "out of memory"


@dataclass(frozen=True)
class Address:
    """Where a rank can be reached: its host's name, and the interface's, with its address and a port."""

    host: str
    interface: str
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.host} ({self.interface}, {self.address})"


# From a rank to the launcher.


@dataclass(frozen=True)
class Hello(Message):
    """The first words of a rank. `secret` is the group's, which only its ranks were given.

    address: where it listens for a try of the link to it, of a group on several machines.
    """

    kind: ClassVar[str] = "hello"
    version: int
    secret: str
    rank: int
    pid: int
    address: Address | None = None


@dataclass(frozen=True)
class Linked(Message):
    """A rank has reached all ranks on other machines."""

    kind: ClassVar[str] = "linked"


@dataclass(frozen=True)
class Ask(Message):
    """A rank sets or asks for what ranks tell each other to connect: torch's store, kept by the launcher.

    Args:
        what: a word of QUESTIONS. value: in hexadecimal, of a set; the number of an add; seconds of a wait.
    """

    kind: ClassVar[str] = "ask"
    number: int
    what: str
    keys: tuple[str, ...]
    value: str = ""


@dataclass(frozen=True)
class Stage(Message):
    """A rank enters a stage: importing, loading, fetching, checking, encoding, first step, compiling, decoding, saving.

    Once it tells of a step it denoises. The one rank that fetches from the hub tells how far it is: "fetching, 1.2 GB".
    """

    kind: ClassVar[str] = "stage"
    name: str


@dataclass(frozen=True)
class Source(Message):
    """A rank has its weights from this folder, in which they are whole: the hub has been fetched from.

    Told in each job, before the weights are loaded.
    """

    kind: ClassVar[str] = "source"
    folder: str


@dataclass(frozen=True)
class Step(Message):
    """A rank has finished a denoising step, from 1, of the call that draws a picture, from 0, and those after it."""

    kind: ClassVar[str] = "step"
    picture: int
    step: int


@dataclass(frozen=True)
class Alive(Message):
    """A rank's process runs. It does not tell that its job goes on: steps do."""

    kind: ClassVar[str] = "alive"


@dataclass(frozen=True)
class Saved(Message):
    """A picture is on the disk, whole."""

    kind: ClassVar[str] = "saved"
    picture: int
    file: File


@dataclass(frozen=True)
class Checked(Message):
    """A rank has compared the first step of all ranks with its own."""

    kind: ClassVar[str] = "checked"
    check: Check


@dataclass(frozen=True)
class Done(Message):
    """A rank has done its job.

    Args:
        seconds: of each stage.
        peak_bytes: the most memory that the rank held, on its GPU if it uses one; peak_host_bytes: in main memory.
        sent_bytes: to other ranks, by attention_backends; None of diffusers' own exchanges, which are not counted.
        digests: of each picture's final latents, the same on all ranks.
        loads: how often the rank has loaded weights so far.
        kernel: what attention was computed with.
        step_seconds: of the denoising steps of each call of the pipeline; rank 0 alone tells.
        skipped_steps: of each call: those in which a cache stood in for something that this rank would compute.
        held_bytes: of the weights of each part of the pipeline that the rank holds; 0 of what other ranks run.
    """

    kind: ClassVar[str] = "done"
    seconds: dict[str, float]
    peak_bytes: int
    digests: tuple[str, ...]
    loads: int
    peak_host_bytes: int = 0
    sent_bytes: int | None = 0
    kernel: str = ""
    scheduler: Scheduler | None = None
    environment: dict[str, str] = field(default_factory=dict)
    step_seconds: tuple[tuple[float, ...], ...] = ()
    skipped_steps: tuple[tuple[int, ...], ...] = ()
    held_bytes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Error(Message):
    """A rank has failed, and ends."""

    kind: ClassVar[str] = "error"
    cause: str


# From the launcher to a rank; Job is another one.


@dataclass(frozen=True)
class Links(Message):
    """Where the ranks of all machines are, in rank order: a rank tries to reach those on other machines."""

    kind: ClassVar[str] = "links"
    addresses: tuple[Address, ...]


@dataclass(frozen=True)
class Told(Message):
    """The answer to an Ask of this number, in hexadecimal."""

    kind: ClassVar[str] = "told"
    number: int
    value: str = ""


@dataclass(frozen=True)
class Stop(Message):
    """No more jobs: the rank ends."""

    kind: ClassVar[str] = "stop"


FROM_RANK: Kinds = (Hello, Linked, Ask, Stage, Source, Step, Alive, Checked, Saved, Done, Error)
FROM_LAUNCHER: Kinds = (Job, Stop, Links, Told)
