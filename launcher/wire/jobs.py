"""What ranks are asked to do: a job is one message, with all that is said of its weights and of how they are shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from launcher.caches import Cache
from launcher.decoding import Decoding
from launcher.records.record import Recipe
from launcher.schedulers import Wish
from launcher.wire.messages import Message


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
        speeds: the fields of attention_backends.workload.Speeds that were planned with; empty: those that it states.
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
    speeds: tuple[float, ...] = ()
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
