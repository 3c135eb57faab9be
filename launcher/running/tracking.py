"""Runs that ended, told to a tracker: by a process of its own, whose failure is a note and loses no picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from launcher.config.paths import user_path
from launcher.config.schema import LaunchConfig
from launcher.running.failures import how_it_died, last_words

PATIENCE = 600.0  # seconds that a tracker has
LOG = "tracker.log"


def track(runs: Iterable[tuple[LaunchConfig, Path]]) -> list[str]:
    """Tell trackers of runs, each with its configuration and folder; gives what went wrong, in words."""
    groups: dict[tuple[str, str, str], list[Path]] = {}
    for config, folder in runs:
        tracker = config.tracker
        if tracker.name != "none":
            groups.setdefault((tracker.name, tracker.project, tracker.dir), []).append(folder)
    return [said for key, folders in groups.items() if (said := _tell(*key, folders))]


def _tell(name: str, project: str, place: str, folders: list[Path]) -> str:
    log = folders[0] / "logs" / LOG
    line = [sys.executable, "-P", "-m", "launcher.tracker", name, project, str(user_path(place))]
    root = str(Path(__file__).parents[2])
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    given = json.dumps([str(folder.absolute()) for folder in folders])
    try:
        with log.open("wb") as output:
            subprocess.run(
                line, input=given.encode(), stdout=output, stderr=output, env=env, timeout=PATIENCE, check=True
            )
    except subprocess.TimeoutExpired:
        return f"tracker={name} gave no answer within {PATIENCE:g} s; the pictures are made (log: {log})"
    except OSError as error:
        why = error.strerror or str(error)
    except subprocess.CalledProcessError as error:
        code = error.returncode
        why = how_it_died(code, log) if code < 0 else last_words(log) or f"it ended with exit code {code}"
    else:
        return ""
    return f"tracker={name} was not told: {why}; the pictures are made (log: {log})"
