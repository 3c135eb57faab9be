"""The launcher from Python, for scripts and notebooks: ranks that stay warm between runs, pictures as PIL images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import codec
from launcher.config.compose import Composer
from launcher.config.text import is_text, quoted
from launcher.estimates import plan as plans
from launcher.running.session import Session

if TYPE_CHECKING:
    from PIL import Image


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
        config_dir: a folder of your own YAML files, like conf/: a model of yours, say.

    Raises:
        launcher.Refused: `config_dir` is no folder, or a file there has the name of one of conf/.
    """

    def __init__(self, *words: str, config_dir: str | Path | None = None) -> None:
        self.words = words
        self._session = Session(_composer(config_dir))

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
            launcher.Refused: the request is illegal; its `problems` say what would work.
            launcher.RunFailed: a rank failed; the next run starts new ranks.
        """
        from launcher.records.picture import read_frames

        made = self._session.run([*self.words, *words, *_words(settings)])
        files = [made.folder / file.file for file in made.record.files]
        frames = [read_frames(path, made.record.frames.fps) for path in files]
        record = codec.plain(made.record)
        assert isinstance(record, dict)
        return Result([shown[0] for shown in frames], frames, files, record)

    def close(self) -> None:
        """End the ranks."""
        self._session.close()


def plan(*words: str, config_dir: str | Path | None = None, **settings: Any) -> plans.Plan:
    """What a run of the same words would do, or why it can't: `plan("machine=h100x8", model="flux", height=1000)`.

    Args:
        words: settings as on the command line.
        config_dir: as of Pool.
        settings: those whose names have no dot, as values.

    Raises:
        launcher.Refused: the words can't be read. What is wrong with their request is in the plan's `problems`.
    """
    return plans.plan(Session(_composer(config_dir)).resolve([*words, *_words(settings)])[1])


def _composer(config_dir: str | Path | None) -> Composer:
    return Composer(None if config_dir is None else str(config_dir))


def _words(settings: dict[str, Any]) -> list[str]:
    return [f"{key}={_word(key, value)}" for key, value in settings.items()]


def _word(key: str, value: Any) -> str:
    """A value as Hydra reads it back."""
    if value is None:
        return "null"
    value = str(value) if isinstance(value, Path) else value
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_word('', item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{_word('', item)}" for name, item in value.items()) + "}"
    if isinstance(value, str) and (is_text(key) or not re.fullmatch(r"\w+", value, re.ASCII)):
        return quoted(value)
    return str(value)
