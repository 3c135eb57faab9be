"""What the launcher and its ranks say to each other: every message a frozen dataclass, read by codec.

On the wire a message is a JSON object of its fields and `kind`, its name below.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from launcher import codec
from launcher.caches import Cache
from launcher.codec import MalformedError
from launcher.decoding import Decoding
from launcher.records.record import Check, File, Recipe, Scheduler
from launcher.schedulers import Wish

VERSION = 5
HEARTBEAT = 1.0  # seconds between two signs of life of a rank that works
OUT_OF_GPU_MEMORY = "out of GPU memory"  # how the cause of a rank that met its GPU's limit begins


class ProtocolError(Exception):
    """The other side sent something that is not a message, or not one that it may send."""


@dataclass(frozen=True)
class Message:
    """Anything that is said; `kind` tells which."""

    kind: ClassVar[str]


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
    """A rank enters a stage: importing, loading, fetching, checking, denoising, decoding, saving.

    The one rank that fetches from the hub tells how far it is: "fetching, 1.2 GB".
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


# From the launcher to a rank.


@dataclass(frozen=True)
class LoraFile:
    """A LoRA. `changed` is the file's time of change in ns: a file that was changed is another one."""

    path: str
    changed: int
    scale: float
    name: str


@dataclass(frozen=True)
class PartFile:
    """A file or folder that a part of the pipeline is read from instead, and the setting that gives it.

    `changed` is its time of change in ns. Where a repository is named, files of `patterns` are fetched from the hub,
    and `path` is within it.
    """

    part: str
    path: str
    changed: int
    setting: str
    repository: str = ""
    revision: str | None = None
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Load:
    """Which weights, and where to: what a group keeps between its jobs.

    Args:
        pipeline: the class in diffusers.
        path: a folder, or a repository of the hub.
        timeout: seconds that a collective may take.
        transport: how GPUs exchange, a word of attention_backends.catalog.TRANSPORTS.
        variant: of the weight files; None for the plain ones.
        deterministic: take only what makes the same numbers each time.
        fused: LoRAs that are added to the weights. replaced: parts that are not the pipeline's own.
        sharded: the pipeline's parts of whose weights each rank holds a part.
        quantized: those whose weights are quantised, by `quantization`, a word of launcher.quantizing.WAYS.
    """

    pipeline: str
    path: str
    revision: str | None
    dtype: str
    device: str
    offload: str
    timeout: float
    transport: str
    variant: str | None = None
    deterministic: bool = False
    fused: tuple[LoraFile, ...] = ()
    replaced: tuple[PartFile, ...] = ()
    sharded: tuple[str, ...] = ()
    quantized: tuple[str, ...] = ()
    quantization: str = "none"


@dataclass(frozen=True)
class Sharing:
    """How the ranks share a sequence.

    Args:
        plan: what is split and gathered; None: the class's own plan.
        cfg_degree: 2: two halves of the ranks compute a branch of guidance each, and `branches` says how the pipeline
            gives them to its transformer, by "calls" or as a "batch".
        transformers: the pipeline's parts that are shared.
        shares: of the tokens and heads, one a rank of a sequence; empty: equal ones.
        implementation: whose code shares it, "own" or "diffusers".
        compile: what of the transformers is compiled, a word of launcher.compiling.WAYS.
    """

    mode: str
    ring_degree: int
    ulysses_degree: int
    schedule: str
    kernel: str
    plan: dict[str, object] | None = None
    transformers: tuple[str, ...] = ("transformer",)
    cfg_degree: int = 1
    branches: str = "calls"
    shares: tuple[int, ...] = ()
    implementation: str = "own"
    compile: str = "none"


@dataclass(frozen=True)
class Picture:
    """One picture, or video: `prompt` is the number of its prompt in the job."""

    prompt: int
    seed: int
    file: str


@dataclass(frozen=True)
class Given:
    """A picture to start from, made ready: the argument that it is, its file, and whether it is one of a list.

    condition: the class that the pipeline takes it in; last: at the end in time; anew: how much of it is drawn anew.
    """

    argument: str
    path: str
    several: bool
    condition: str | None = None
    last: bool = False
    anew: float = 0.0


@dataclass(frozen=True)
class Job(Message):
    """Pictures to make. What they share is said once.

    Args:
        folder: the run's, absolute: files and logs go there.
        threads: that each rank computes with; cores: that rank 0 may decode with, once the others are done.
        call: the pipeline's arguments but for prompt, generator and callback.
        seed: the first picture's.
        crop: left, top, right and bottom of what is kept, in pixels of what is rendered.
        frames: that are kept of a video; None for pictures, as is `fps`.
        format: a name in records.formats; codec: one in records.film, for a film; crf: None for the codec's own.
        pipeline: the class that makes them, of the weights that are loaded; None: the one that was loaded.
        started_from: pictures.
        scheduler: what is asked of it; an empty wish leaves it as the pipeline has it.
        cache: of steps. decoding: how the VAE does it.
        metadata: a word of METADATA there.
        recipe: of all pictures; each file carries Recipe.of.
        check: before anything is drawn, compare the first step of all ranks with one rank's: "step", the whole model,
            or "block". only_check: no picture is made.
        calls: how many of the pictures each call of the pipeline draws, in their order; empty: one each.
        first_rank: the number of the first rank that does this, where several groups make a run's pictures.
    """

    kind: ClassVar[str] = "job"
    folder: str
    load: Load
    sharing: Sharing
    loras: tuple[LoraFile, ...]
    threads: tuple[int, ...]
    cores: int
    call: dict[str, object]
    seed: int
    crop: tuple[int, int, int, int]
    frames: int | None
    fps: int | None
    format: str
    metadata: str
    prompts: tuple[str, ...]
    pictures: tuple[Picture, ...]
    recipe: Recipe
    check: str | None = None
    only_check: bool = False
    calls: tuple[int, ...] = ()
    codec: str | None = None
    crf: int | None = None
    pipeline: str | None = None
    started_from: tuple[Given, ...] = ()
    scheduler: Wish = Wish()
    cache: Cache = Cache()
    decoding: Decoding = Decoding()
    first_rank: int = 0


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


Kinds = tuple[type[Message], ...]
FROM_RANK: Kinds = (Hello, Linked, Ask, Stage, Source, Step, Alive, Checked, Saved, Done, Error)
FROM_LAUNCHER: Kinds = (Job, Stop, Links, Told)


def pack(message: Message) -> bytes:
    """Write a message as a line, without its end."""
    data = codec.plain(message)
    assert isinstance(data, dict)
    return codec.dumps({"kind": message.kind, **data}).encode()


def unpack(line: bytes, kinds: Kinds) -> Message:
    """Read a message of one of these kinds.

    Raises:
        ProtocolError: the line is none of them.
    """
    try:
        data = codec.parse(line)
        if not isinstance(data, dict):
            raise MalformedError("expected an object")
        name = data.pop("kind", None)
        for kind in kinds:
            if kind.kind == name:
                return codec.build(kind, data, kind.kind)
        raise MalformedError(f"kind={name!r:.40} is not expected")
    except MalformedError as error:
        raise ProtocolError(f"not a message ({error}): {line[:80]!r}") from error
