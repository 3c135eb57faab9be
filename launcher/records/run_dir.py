"""The run directory: its file names, and run.json, which always says how the run stands."""

from __future__ import annotations

import json
import platform
import shlex
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from launcher import __version__
from launcher.problems import Problem, Refused
from launcher.records.files import whole

SCHEMA = 1
PATH_KEYS = ("path", "prompt_file", "dir")
LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "hydra-core", "omegaconf", "safetensors", "Pillow")


class RunDir:
    """Owns every name in one run's folder.

    Raises:
        Refused: the folder holds a run already; what is on disk is never overwritten.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = path / "run.json"
        self.logs = path / "logs"

    def start(self, record: dict[str, Any]) -> None:
        """Claim the folder and write the first run.json, with status `running`."""
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            self.record.touch(exist_ok=False)  # exclusive: two runs never share a folder
        except FileExistsError:
            value = f"hydra.run.dir={self.path}"
            raise Refused([Problem(value, "holds a run already", "choose another folder, or leave it out")]) from None
        self.started = time.monotonic()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._content = {"schema": SCHEMA, "status": "running", "started": now, **record}
        self.write()

    def write(self, **changes: Any) -> None:
        """Change some of run.json's fields."""
        self._content.update(changes)
        text = json.dumps(self._content, indent=2, ensure_ascii=False) + "\n"
        with whole(self.record) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")

    def end(self, status: str, **changes: Any) -> None:
        """The last word: `done`, `failed` or `interrupted`; what a killed rank left half-written is removed.

        Raises:
            FileNotFoundError: the folder is gone.
        """
        for half in self.path.glob(".*.tmp"):
            half.unlink(missing_ok=True)
        try:
            self.write(status=status, seconds=round(time.monotonic() - self.started, 3), **changes)
        except OSError:  # a full disk takes no second file; without its indentation the record fits into the first
            with self.record.open("r+", encoding="utf-8", errors="backslashreplace") as file:
                file.write(json.dumps(self._content) + "\n")
                file.truncate()

    def log(self, rank: int | None = None) -> Path:
        """Where a rank's output goes; None is the process that starts the ranks."""
        return self.logs / ("start.log" if rank is None else f"rank{rank}.log")


def versions() -> dict[str, str]:
    """What made the picture. Read from the packages' metadata, so that torch is not imported."""
    found = {"launcher": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def portable(config: dict[str, Any]) -> dict[str, Any]:
    """A copy of a configuration without absolute paths, which would name this machine's user.

    Only a path's last part is kept, behind `.../`: whoever replays the run gives the folder again.
    """
    copy: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            copy[key] = portable(value)
        else:
            copy[key] = _portable(value) if key in PATH_KEYS and isinstance(value, str) else value
    return copy


def _portable(path: str) -> str:
    return f".../{Path(path).name}" if path.startswith(("/", "~")) else path


def portable_override(override: str) -> str:
    """The same for one word of the command line, `key=value`."""
    key, sign, value = override.partition("=")
    return key + sign + _portable(value) if key.split(".")[-1] in PATH_KEYS else override


def command_line(overrides: list[str]) -> str:
    """The line that asks for the same again."""
    return shlex.join(["python", "-m", "launcher", *(portable_override(word) for word in overrides)])
