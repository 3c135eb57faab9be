"""Tells a tracker of runs that have ended: settings, times, memory and pictures, by accelerate's own trackers.

    python -m launcher.tracker NAME PROJECT FOLDER < a JSON list of run directories

It is a process of its own, which the launcher starts and waits for: torch, which accelerate imports, stays out of the
launcher, and a tracker that fails or hangs takes nothing along. Everything is read from run.json.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.records.picture import first_frame
from launcher.records.record import Record, read_record


def main() -> None:
    """Tell of each run that is named on standard input."""
    name, project, place = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    place.mkdir(parents=True, exist_ok=True)
    for folder in map(Path, json.load(sys.stdin)):
        tell(name, project, place, folder)


def tell(name: str, project: str, place: Path, folder: Path) -> None:
    """Tell of one run."""
    record = read_record(folder / "run.json")
    tracker = made(name, project, place, folder)
    tracker.start()
    tracker.store_init_configuration(dict(settings(record.config)))
    for step, values in enumerate(steps(record)):
        tracker.log(values, step=step)
    tracker.log(totals(record), step=0)
    pictures = [folder / file.file for file in record.files]
    if name == "mlflow":
        for picture in pictures:
            tracker.log_artifact(str(picture))
    else:
        import numpy as np

        for number, picture in enumerate(pictures):
            image = np.asarray(first_frame(picture))[None]
            tracker.log_images(
                {"pictures": image}, step=number, **({"dataformats": "NHWC"} if name == "tensorboard" else {})
            )
    tracker.finish()


def made(name: str, project: str, place: Path, folder: Path) -> Any:
    """One of accelerate's trackers, for a run of its own. What the environment says of a server holds."""
    from accelerate import PartialState, tracking

    PartialState(cpu=True)  # which its trackers ask whether this is the main process
    run = "-".join(folder.absolute().parts[-2:])
    if name == "tensorboard":
        return tracking.TensorBoardTracker(f"{project}/{run}", place)
    if name == "mlflow":
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{place.absolute()}/mlflow.db")
        return tracking.MLflowTracker(project, (place / "artifacts").absolute().as_uri(), run_name=run)
    return tracking.WandBTracker(project, name=run, dir=str(place))


def settings(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a configuration that are numbers or text, by their dotted names."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from settings(value, f"{prefix}{key}.")
        elif isinstance(value, (str, int, float)):
            yield prefix + key, value


def steps(record: Record) -> Iterator[dict[str, float]]:
    """What is known of each denoising step, picture after picture."""
    for picture in record.step_seconds:
        for seconds in picture:
            yield {"seconds/step": seconds}


def totals(record: Record) -> dict[str, float]:
    """What is known of the run as a whole."""
    found = {f"seconds/{stage}": seconds for stage, seconds in (record.times or {}).items()}
    found |= {f"peak_bytes/rank{rank}": float(size) for rank, size in enumerate(record.peak_bytes or ())}
    return found | ({"seconds/run": record.seconds} if record.seconds is not None else {})


if __name__ == "__main__":
    main()
