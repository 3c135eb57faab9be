"""Pictures, films and sound saved with the recipe that makes them again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.records.files import sha256
from launcher.records.film import Film
from launcher.records.formats import FORMATS
from launcher.records.hashes import weights
from launcher.records.picture import save
from launcher.records.record import File, at_commit
from launcher.wire.jobs import Job
from launcher.wire.protocol import Saved
from launcher.worker import surroundings
from launcher.worker.decoded import Frames, sound_of


def saved(pipe: Any, job: Job, number: int, result: Any, call: range, folder: str, fetched: Mapping[str, str]) -> Saved:
    """Save one of the pictures that a call of the pipeline drew.

    Args:
        number: the picture's, of those that the call drew.
        result: what the pipeline returned.
        folder: that the pipeline was loaded from.
        fetched: SHA-256 of the files of parts that the hub has given.
    """
    place = number - call.start
    picture = job.pictures[number]
    path = Path(job.folder) / picture.file
    shown = result[0]  # the first output is what was asked for, under whatever name
    own = shown[place : place + 1] if job.frames is None else shown[place][: job.frames]
    film, frames = None, Frames(own, job.crop)
    if job.frames is not None:
        assert job.fps is not None
        film = Film(job.fps, job.codec or "h264", job.crf, sound_of(pipe, result, place))
    recipe = job.recipe.of(job.prompts[picture.prompt], picture.seed)
    recipe = dataclasses.replace(
        recipe,
        scheduler=surroundings.scheduler(pipe).name,
        together=len(call),
        config=at_commit(recipe.config, folder),
        weights=job.recipe.weights or weights(Path(folder)),
        inputs={**job.recipe.inputs, **fetched},
    )
    save(frames, path, recipe, FORMATS[job.format], film, job.metadata)
    file = File(
        file=path.name,
        sha256=sha256(path),
        bytes=path.stat().st_size,
        height=job.crop[3] - job.crop[1],
        width=job.crop[2] - job.crop[0],
        seed=picture.seed,
        prompt=picture.prompt,
        frames=None if job.frames is None else len(frames),
        fps=None if job.frames is None else job.fps,
    )
    return Saved(number, file)
