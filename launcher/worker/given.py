"""What a job starts from, as its pipeline takes it."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from PIL import Image, ImageSequence

from launcher.wire.jobs import Given, Job


def started_from(pipe: Any, job: Job) -> dict[str, object]:
    """What a job starts from, by the arguments of its pipeline's call."""
    found: dict[str, Any] = {}
    for given in job.started_from:
        film = given.path.endswith(".tiff")
        with Image.open(given.path) as opened:
            picture: Any = [frame.copy() for frame in ImageSequence.Iterator(opened)] if film else opened.copy()
        if given.condition is not None:
            picture = _condition(pipe, given, picture, job)
        if given.several:
            found.setdefault(given.argument, []).append(picture)
        else:
            found[given.argument] = picture
    frames = found.get("video")
    if isinstance(frames, list) and "mask" in found:  # which stands still
        found["mask"] = [found["mask"]] * len(frames)
    return found


def _condition(pipe: Any, given: Given, picture: Any, job: Job) -> Any:
    """A picture or film with its place in time, and how much of it is kept, as the pipeline takes them together."""
    kind = getattr(sys.modules[type(pipe).__module__], str(given.condition))
    names = {field.name for field in dataclasses.fields(kind)}
    what = "frames" if "frames" in names else "video" if isinstance(picture, list) else "image"
    last = job.call["num_frames"]
    assert isinstance(last, int)
    place = {"index": -1} if "index" in names else {"frame_index": last - 1}  # of a latent, or of a frame
    return kind(**{what: picture}, **(place if given.last else {}), strength=1 - given.anew)
