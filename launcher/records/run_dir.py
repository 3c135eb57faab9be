"""The run directory: its file names, and run.json, which always says how the run stands."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import platform
import re
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import codec
from launcher.installed import version
from launcher.problems import Problem, Refused
from launcher.records.files import remove_unfinished, whole
from launcher.version import __version__

if TYPE_CHECKING:  # a plan asks for a folder's name alone
    from launcher.records.record import Config, Record, Status

PICTURE = re.compile(r"\d{4,}\.\w+")  # the name of a picture of a run
INPUTS = "inputs"  # the folder of what a run started from
PATH_KEYS = ("path", "base", "transformer", "vae", "prompt_file", "dir", "image", "mask_image", "last_image", "video")
IN_STACK = re.compile(r"(path\s*:\s*)(\"[^\"]*\"|'[^']*'|[^,}\s][^,}]*)")  # of lora=[{path: FILE, scale: 0.8}]
ITEM = re.compile(r"\s*(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^,]+)")  # of a list of paths, quoted or not
LIBRARIES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "hydra-core",
    "omegaconf",
    "safetensors",
    "Pillow",
    "av",
    "numpy",
    "tokenizers",
    "sentencepiece",
    "ftfy",
    "torchvision",
    "torchao",
)


class RunDir:
    """Owns every name in one run's folder.

    Args:
        first_rank: of the group of ranks that logs there, where several groups make one run.

    Raises:
        Refused: the folder holds a run already; what is on disk is never overwritten.
    """

    def __init__(self, path: Path, first_rank: int = 0) -> None:
        self.path, self.first_rank = path, first_rank
        self.path_of_record = path / "run.json"
        self.logs = path / "logs"

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Claim the folder, before anything else is written there; the claim is given up if the run does not start.

        Raises:
            Refused: it holds a run already, or pictures that the run might overwrite.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self.path_of_record.touch(exist_ok=False)  # exclusive: two runs never share a folder
        except FileExistsError:
            value = f"hydra.run.dir={self.path}"
            raise Refused([Problem(value, "holds a run already", "choose another folder, or leave it out")]) from None
        try:
            if pictures := sorted(path.name for path in self.path.iterdir() if PICTURE.fullmatch(path.name)):
                rule = f"holds {pictures[0]} already, which the run might overwrite"
                raise Refused([Problem(f"hydra.run.dir={self.path}", rule, "choose another folder, or leave it out")])
            yield
        finally:
            with contextlib.suppress(OSError):
                if self.path_of_record.stat().st_size == 0:
                    self.path_of_record.unlink()

    def start(self, record: Record) -> None:
        """Write the first run.json."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self._began = time.monotonic()
        self._record, self._cost, self._written = record, 0.0, 0.0
        self.write()

    def rewrite(self, record: Record, **changes: Any) -> None:
        """Write the record of a run that another process started, with some fields changed."""
        self._record, self._cost, self._written = record, 0.0, 0.0
        self.write(**changes)

    @property
    def record(self) -> Record:
        """What run.json says, or will say at the latest when the run ends."""
        return self._record

    def write(self, **changes: Any) -> None:
        """Change some of the record's fields, and run.json."""
        began = time.monotonic()
        self._record = dataclasses.replace(self._record, **changes)
        text = codec.dumps(self._record, indent=2, ascii=False) + "\n"
        with whole(self.path_of_record) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        self._written = time.monotonic()
        self._cost = self._written - began

    def note(self, **changes: Any) -> None:
        """The same for what happens thousands of times: run.json follows as often as that takes 1% of the time."""
        if time.monotonic() - self._written > 100 * self._cost:
            self.write(**changes)
        else:
            self._record = dataclasses.replace(self._record, **changes)

    def end(self, status: Status, **changes: Any) -> None:
        """Write the last word; what a killed rank left half-written is removed.

        Raises:
            FileNotFoundError: the folder is gone.
        """
        remove_unfinished(self.path)
        seconds = round(time.monotonic() - self._began, 3)
        try:
            self.write(status=status, seconds=seconds, **changes)
        except OSError:  # a full disk takes no second file; without its indentation the record fits into the first
            with self.path_of_record.open("r+", encoding="utf-8", errors="backslashreplace") as file:
                file.write(codec.dumps(self._record) + "\n")
                file.truncate()

    def input(self, number: int, film: bool = False) -> Path:
        """A picture that was started from, as the model gets it; of a film all frames in one file."""
        return self.path / INPUTS / f"{number}.{'tiff' if film else 'png'}"

    def original(self, number: int, name: str) -> Path:
        """The same as it was given, under its own name, or the end of it where a temporary name would be too long."""
        return self.path / INPUTS / str(number) / (name if len(os.fsencode(name)) <= 200 else name[-50:])

    def log(self, rank: int | None = None) -> Path:
        """Where the output of a rank of the group goes; None is the process that starts the ranks."""
        if rank is None:
            return self.logs / (f"start{self.first_rank}.log" if self.first_rank else "start.log")
        return self.logs / f"rank{self.first_rank + rank}.log"


@functools.cache
def versions() -> dict[str, str]:
    """What makes the pictures. torch is not imported; asked once."""
    found = {"launcher": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        found[name] = version(name) or "not installed"
    return found


def portable(config: Config) -> Config:
    """A copy of a configuration without absolute paths, which would name this machine's user.

    Only a path's last part is kept, behind `.../`: whoever replays the run gives the folder again.
    """
    copy: Config = {}
    for key, value in config.items():
        if isinstance(value, dict):
            copy[key] = portable(value)
        elif isinstance(value, list):
            copy[key] = [portable(item) if isinstance(item, dict) else item for item in value]
        else:
            copy[key] = _portable(value) if key in PATH_KEYS and isinstance(value, str) else value
    return copy


def _portable(path: str) -> str:
    if path.startswith("[") and path.endswith("]"):  # several pictures
        return f"[{','.join(_portable_text(item.strip()) for item in ITEM.findall(path[1:-1]))}]"
    refers = "${" in path and "/" in path  # to a variable of the shell's, say, which may be anywhere
    elsewhere = path.startswith(("/", "~")) or ".." in Path(path).parts or refers
    return f".../{Path(path).name}" if elsewhere else path


def portable_override(override: str) -> str:
    """The same for one word of the command line, `key=value`."""
    key, sign, value = override.partition("=")
    if key.lstrip("+") in ("lora", "lora.stack"):
        return key + sign + IN_STACK.sub(lambda found: found[1] + _portable_text(found[2]), value)
    if key.lstrip("+").split(".")[-1] not in PATH_KEYS:
        return override
    return key + sign + _portable_text(value)


def _portable_text(value: str) -> str:
    quote = value[:1] if value[:1] in ("'", '"') and value[-1:] == value[:1] and len(value) > 1 else ""
    return quote + _portable(value.removeprefix(quote).removesuffix(quote)) + quote


def command_line(overrides: list[str], options: Sequence[str] = ()) -> str:
    """The line that asks for the same again."""
    words = [*map(_portable, options), *map(portable_override, overrides)]
    return shlex.join(["python", "-m", "launcher", *words])
