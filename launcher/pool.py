"""The launcher from Python, for scripts and notebooks: ranks that stay warm between runs, pictures as PIL images."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from launcher.cli.main import Session
from launcher.config.compose import Composer, quoted
from launcher.records.picture import read_frames


@dataclass(frozen=True)
class Result:
    """What one run made.

    Args:
        images: the pictures, in memory; of a video the first frame.
        frames: each video's frames, in memory; a picture is one frame.
        files: their paths, in the run's folder.
        record: run.json as data.
    """

    images: list[Image.Image]
    frames: list[list[Image.Image]]
    files: list[Path]
    record: dict[str, Any]


class Pool:
    """A launcher whose ranks are started by the first run and serve the following ones.

    A run with other processes, devices, weights or dtype ends them and starts new ones; everything else (cp mode, size,
    prompt, steps, seed) changes without a reload. Leaving the `with` block ends the ranks.

    Args:
        words: settings for every run, as on the command line: `Pool("model=flux", "cp=ring_anything")`.
    """

    def __init__(self, *words: str) -> None:
        self.words = words
        self._session = Session(Composer())

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, *words: str, **settings: Any) -> Result:
        """Make pictures and wait for them.

        Args:
            words: settings as on the command line, for this run: `"cp.ring_degree=3"`.
            settings: those whose names have no dot, as values: `height=1000, prompt="a cat, sitting"`.

        Raises:
            launcher.problems.Refused: the request is illegal; its `problems` say what would work.
            launcher.problems.RunFailed: a rank failed; the next run starts new ranks.
        """
        line = [*self.words, *words, *(f"{key}={_word(value)}" for key, value in settings.items())]
        self._session.composer.check_words(line, sweep=False)
        made = self._session.single(line, quiet=True)
        files = [made["folder"] / facts["file"] for facts in made["files"]]
        record = json.loads((made["folder"] / "run.json").read_text(encoding="utf-8"))
        frames = [read_frames(path, record["frames"]["fps"]) for path in files]
        return Result([shown[0] for shown in frames], frames, files, record)

    def close(self) -> None:
        """End the ranks."""
        self._session.close()


def _word(value: Any) -> str:
    if value is None:
        return "null"
    plain = not isinstance(value, str) or re.fullmatch(r"\w+", value, re.ASCII)  # the name of an option, say
    return str(value) if plain else quoted(value)
