"""What is written down of a run: run.json, and the recipe that each picture carries. Dataclasses, read by codec."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher import codec
from launcher.reading import read_bytes

SCHEMA = 2
MAX_RECORD = 256 << 20  # bytes of a run.json that are read: a hundred thousand pictures take 30 MB

Status = Literal["running", "done", "failed", "interrupted"]
Config = dict[str, object]  # a configuration as data: what it means is checked by whoever composes it again


@dataclass(frozen=True)
class Input:
    """A picture that was started from.

    Args:
        setting: image, mask_image or last_image.
        file: its name, without its folder; sha256: of the file as it was given.
        height, width: upright, in pixels.
        changed: what was done to it, each a clause.
    """

    setting: str
    file: str
    sha256: str
    height: int
    width: int
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How a picture was made.

    Args:
        config: with everything filled in, its prompt and seed included.
        crop: left, top, right and bottom, in pixels of what was rendered.
        rendered_frames: of a video; None of a picture.
    """

    schema: int
    config: Config
    crop: tuple[int, int, int, int]
    versions: dict[str, str]
    rendered_frames: int | None = None
    inputs: tuple[Input, ...] = ()

    def of(self, prompt: str, seed: int) -> Recipe:
        """The recipe of one picture of a job: it asks for that one alone."""
        one = {"prompt": prompt, "prompt_file": None, "images": 1, "seed": seed}
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


@dataclass(frozen=True)
class Record:
    """A run: what was asked, how it stands, and what came of it.

    Args:
        command: the line that asks for the same again, without folders of this machine.
        text_tokens: of each call of the transformer that differs; None: not known before the start.
        seconds: of the whole run; times are those of each stage.
        peak_bytes: the most memory that each rank held.
        loads: how often these ranks had loaded weights by then: 1 in all jobs of a sweep with one model.
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
    inputs: tuple[Input, ...] = ()


def read_record(path: Path) -> Record:
    """Read a run.json.

    Raises:
        ValueError: it can't be read, or is not a record of this version of the program.
    """
    return codec.loads(Record, read_bytes(path, MAX_RECORD))
