"""What is written down of a run: run.json, and the recipe that each picture carries. Dataclasses, read by codec."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from launcher import codec
from launcher.reading import read_bytes

SCHEMA = 3
MAX_RECORD = 256 << 20  # bytes of a run.json that are read: a hundred thousand pictures take 30 MB

Status = Literal["running", "done", "failed", "interrupted", "queued"]
Config = dict[str, object]  # a configuration as data: what it means is checked by whoever composes it again


@dataclass(frozen=True)
class StartedFrom:
    """A picture or a film that was started from.

    Args:
        setting: image, mask_image, last_image or video.
        file: its name, without its folder; its SHA-256 is among the inputs.
        height, width: upright, in pixels.
        changed: what was done to it, each a clause.
    """

    setting: str
    file: str
    height: int
    width: int
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weights:
    """Which weights: each file's SHA-256, by its path in the model's folder, and the commit of a hub repository."""

    files: dict[str, str]
    commit: str | None = None


@dataclass(frozen=True)
class Recipe:
    """How a picture was made.

    Args:
        config: with everything filled in, its prompt and seed included.
        crop: left, top, right and bottom, in pixels of what was rendered.
        rendered_frames: of a video; None of a picture.
        scheduler: its class.
        together: how many pictures the pipeline's call drew, this one among them; drawn alone it is the same up to the
            rounding of float numbers.
        inputs: the SHA-256 of each file that a setting names, by the setting.
    """

    schema: int
    config: Config
    crop: tuple[int, int, int, int]
    versions: dict[str, str]
    rendered_frames: int | None = None
    scheduler: str | None = None
    weights: Weights | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    together: int = 1

    def of(self, prompt: str, seed: int) -> Recipe:
        """The recipe of one picture of a job: it asks for that one alone."""
        one = {"prompt": prompt, "prompt_file": None, "images": 1, "batch": 1, "seed": seed}
        return dataclasses.replace(self, config=self.config | one)


@dataclass(frozen=True)
class File:
    """One file that a run made: `prompt` is the number of its prompt in the record, sizes are in pixels and bytes."""

    file: str
    sha256: str
    bytes: int
    height: int
    width: int
    seed: int
    prompt: int
    frames: int | None = None
    fps: int | None = None

    def __post_init__(self) -> None:
        if self.file != Path(self.file).name or self.file in ("", ".", "..") or "\0" in self.file:
            raise ValueError(f"{self.file[:80]!r} is not a plain file name")


@dataclass(frozen=True)
class Pixels:
    """A size."""

    height: int
    width: int


@dataclass(frozen=True)
class Crop:
    """Where the requested size lies in the rendered one, in pixels."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Sizes:
    """The size that was asked for, and how it was made."""

    requested: Pixels
    rendered: Pixels
    crop: Crop


@dataclass(frozen=True)
class Frames:
    """Frames of a video that were asked for and made; all None for a picture."""

    requested: int | None
    rendered: int | None
    fps: int | None


# How far a self-check lets the ranks' prediction be from one rank's, in parts of its largest number. float32: as all
# proofs here. Half precision rounds in every layer, and guidance multiplies the rounding: right plans on tiny models
# were 3e-3 and 1.5e-2 off, wrong ones 4e-3 to 1e-1, so float32 is the sharper check.
CHECK_BOUNDS = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 3e-2}


@dataclass(frozen=True)
class Check:
    """How close the ranks together came to one rank alone in the first step of a request.

    Args:
        part: "step": the whole model; "block": one block of each list, where one rank's memory does not hold the whole.
        absolute: the largest difference of latents after the step.
        relative: that of the prediction (guidance included), in parts of its largest number; `bound` is its limit.
        batch: how far a call's first picture is from the same drawn alone, on one rank; None where each is alone.
        close: both within the bound. Of all ranks the one that is farthest off is told.
    """

    part: str
    dtype: str
    absolute: float
    relative: float
    bound: float
    close: bool
    batch: float | None = None


@dataclass(frozen=True)
class Scheduler:
    """What turned noise into a picture: its class, and its settings as its configuration has them."""

    name: str
    config: dict[str, object]


@dataclass(frozen=True)
class Checkout:
    """The commit of a checkout of this program, and whether files that git knows were changed since."""

    commit: str
    dirty: bool


@dataclass(frozen=True)
class SlurmJob:
    """A job of Slurm's: its id, its partition, and the seconds that it waited in the queue (None: not known)."""

    id: str
    partition: str
    queued: float | None = None


@dataclass(frozen=True)
class Record:
    """A run: what was asked, how it stands, and what came of it.

    Args:
        command: the line that asks for the same again, its seed included, without folders of this machine.
        text_tokens: of each call of the transformer that differs; None: not known before the start.
        seconds: of the whole run; times are those of each stage.
        step_seconds: of the denoising steps of each call of the pipeline (a picture, or batch= of them), on rank 0.
        peak_bytes: the most that each rank held in this job, of its GPU if it has one; peak_host_bytes: in main memory.
            Since the rank began, where the system (a hardened container) does not let them be counted anew.
        sent_bytes: by each rank to others, in attention; None where diffusers' own modes ran, which count none.
        check: of `check=true`.
        loads: how often these ranks had loaded weights by then: 1 in all jobs of a sweep with one model.
        weights, inputs: as in a recipe; started_from: what was done to pictures among them.
        generator: the device that noise was drawn on.
        kernel: what attention was computed with.
        environment: operating system, processor, driver, libraries below torch, and torch's switches.
        skipped_steps: of each picture or batch, from 1: those in which a cache stood in for a part of what is computed.
        checkout: of this program; None where it was installed from a package.
        hosts: the machines that its ranks were on, where those were several.
        slurm: the job that it ran in, with cluster=slurm.
        held_bytes: of the weights of each part of the pipeline, by each rank; 0 of a part that only other ranks run.
        memory_options: those that memory=auto took, as they are typed.

    What a failed run has not come to, and what older versions did not write, is None or empty.
    """

    schema: int
    status: Status
    started: str
    command: str
    overrides: tuple[str, ...]
    config: Config
    prompts: tuple[str, ...]
    seed: int
    size: Sizes
    frames: Frames
    text_tokens: tuple[int, ...] | None
    tokens_per_rank: tuple[dict[str, int], ...]
    devices: tuple[str, ...]
    versions: dict[str, str]
    files: tuple[File, ...]
    seconds: float | None = None
    times: dict[str, float] | None = None
    peak_bytes: tuple[int, ...] | None = None
    loads: int | None = None
    error: str | None = None
    check: Check | None = None
    weights: Weights | None = None
    started_from: tuple[StartedFrom, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)
    generator: str | None = None
    scheduler: Scheduler | None = None
    kernel: str | None = None
    step_seconds: tuple[tuple[float, ...], ...] = ()
    peak_host_bytes: tuple[int, ...] | None = None
    sent_bytes: tuple[int, ...] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    checkout: Checkout | None = None
    hosts: tuple[str, ...] = ()
    slurm: SlurmJob | None = None
    skipped_steps: tuple[tuple[int, ...], ...] = ()
    held_bytes: tuple[dict[str, int], ...] = ()
    memory_options: tuple[str, ...] = ()


def at_commit(config: Config, folder: str) -> Config:
    """A configuration with the commit that its repository was read at, by the folder of the hub's cache that holds it.

    A branch moves on, so that the same settings would make another picture later.
    """
    place, model = Path(folder), config.get("model")
    if not isinstance(model, dict) or place.parent.name != "snapshots":
        return config
    if place.parent.parent.name != f"models--{str(model.get('base') or model.get('path')).replace('/', '--')}":
        return config
    return config | {"model": model | {"revision": place.name}}


def cp_option(cp: object) -> str | None:
    """The option of cp= that a configuration's `cp` is: its mode, told from diffusers' own of the same name."""
    if not isinstance(cp, dict) or not isinstance(mode := cp.get("mode"), str):
        return None
    return f"diffusers_{mode}" if cp.get("implementation") == "diffusers" else mode


def step_time(pictures: Sequence[Sequence[float]], skips: bool = False) -> float | None:
    """Seconds of a denoising step, the median; a warm-up: the first of several pictures, or else of several steps.

    Args:
        skips: a cache stood in for some of them, which are faster: the mean, for the median tells of one kind alone.
    """
    timed = pictures[1:] if len(pictures) > 1 else [steps[len(steps) > 1 :] for steps in pictures]
    steps = sorted(seconds for picture in timed for seconds in picture)
    if skips and steps:
        return sum(steps) / len(steps)
    return steps[len(steps) // 2] if steps else None


def read_record(path: Path) -> Record:
    """Read a run.json, of this version of the program or an older one.

    Raises:
        ValueError: it can't be read, or is no such record.
    """
    return codec.build(Record, _upgraded(codec.parse(read_bytes(path, MAX_RECORD))))


def _upgraded(data: object) -> object:
    """A record of an older version as one of this version: fields that were added since have defaults.

    Raises:
        ValueError: a newer version wrote it.
    """
    if not isinstance(data, dict):
        return data
    schema = data.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise ValueError(f"of schema {schema}, which a newer version wrote; this one reads up to {SCHEMA}")
    prompts, files = data.get("prompts"), data.get("files")
    if schema == 1 and isinstance(prompts, list) and isinstance(files, list):  # a file had its prompt, not its number
        known = {prompt: number for number, prompt in reversed(list(enumerate(prompts))) if isinstance(prompt, str)}
        kept = [file for file in files if isinstance(file, dict)]
        data = data | {"files": [file | {"prompt": known.get(str(file.get("prompt")), 0)} for file in kept]}
    return data
