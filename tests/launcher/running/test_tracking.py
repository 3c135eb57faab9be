"""Trackers are told by processes of their own; one that fails is a note."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.config.schema import LaunchConfig, TrackerConfig
from launcher.running import tracking
from launcher.running.tracking import LOG, track


def config(name: str = "tensorboard", project: str = "mine", place: str = "trackers") -> LaunchConfig:
    return LaunchConfig(tracker=TrackerConfig(name, project, place))


def run(folder: Path) -> Path:
    (folder / "logs").mkdir(parents=True)
    return folder


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], Any]]:
    """The lines of processes that would be started, and what each is given."""
    found: list[tuple[list[str], Any]] = []
    monkeypatch.setattr(subprocess, "run", lambda line, input, **_: found.append((line[3:], json.loads(input))))
    return found


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Have a program of a test's own stand for this Python, which would start the tracker."""

    def program(text: str) -> None:
        (tmp_path / "program").write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "program").chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "program"))

    return program


def test_runs_of_one_tracker_are_told_together(tmp_path, monkeypatch, started):
    monkeypatch.chdir(tmp_path)
    folders = [run(Path(str(number))) for number in range(5)]
    configs = [config(), config("mlflow"), config(), config(project="other"), config("none")]
    assert track(zip(configs, folders, strict=True)) == []
    place = f"{tmp_path}/trackers"
    assert started == [
        (["launcher.tracker", "tensorboard", "mine", place], [f"{tmp_path}/0", f"{tmp_path}/2"]),
        (["launcher.tracker", "mlflow", "mine", place], [f"{tmp_path}/1"]),
        (["launcher.tracker", "tensorboard", "other", place], [f"{tmp_path}/3"]),
    ]


def test_a_tracker_is_started_only_where_one_is_asked_for(tmp_path, started):
    assert track([]) == []
    assert track([(config("none"), tmp_path)]) == []
    assert started == []


def test_its_home_is_the_users(tmp_path, monkeypatch, started):
    monkeypatch.setenv("HOME", str(tmp_path))
    track([(config(place="~/kept"), run(tmp_path / "a"))])
    assert started[0][0][-1] == f"{tmp_path}/kept"


def test_what_it_says_is_in_its_log_and_it_finds_the_launcher(tmp_path, monkeypatch, tracker):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    tracker('echo "$PYTHONPATH"; cat; echo heard >&2')
    folder = run(tmp_path / "a")
    assert track([(config(), folder)]) == []
    root = Path(tracking.__file__).parents[2]
    assert (folder / "logs" / LOG).read_text() == f'{root}:/elsewhere\n["{folder}"]heard\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo Traceback; echo 'ValueError: no server' >&2; echo bye; exit 1", "was not told: ValueError: no server"),
        ("echo half; exit 3", "was not told: half"),
        ("exit 3", "was not told: it ended with exit code 3;"),
        ("echo half; kill -9 $$", "was not told: killed by SIGKILL (often by the system, when memory runs out"),
    ],
)
def test_why_one_failed_is_its_last_words(tmp_path, tracker, text, said):
    tracker(text)
    folder = run(tmp_path / "a")
    (found,) = track([(config("wandb"), folder)])
    assert found.startswith(f"tracker=wandb {said}")
    assert found.endswith(f"; the pictures are made (log: {folder}/logs/{LOG})")


def test_one_that_hangs_is_ended(tmp_path, monkeypatch, tracker):
    tracker("exec sleep 60")
    monkeypatch.setattr(tracking, "PATIENCE", 0.05)
    (said,) = track([(config(), run(tmp_path / "a"))])
    assert said.startswith("tracker=tensorboard gave no answer within 0.05 s; the pictures are made")


def test_one_that_fails_keeps_no_other_from_being_told(tmp_path, tracker):
    tracker('test "$4" = mlflow')
    folders = [run(tmp_path / name) for name in "abc"]
    (folders[1] / "logs").rmdir()  # its log can't be written
    configs = [config("mlflow"), config("wandb"), config("tensorboard")]
    one, two = track(zip(configs, folders, strict=True))
    assert one.startswith("tracker=wandb was not told: No such file or directory;")
    assert two.startswith("tracker=tensorboard was not told: it ended with exit code 1;")


def test_the_real_one_says_what_it_met(tmp_path):
    (tmp_path / "file").touch()
    (said,) = track([(config(place=f"{tmp_path}/file"), run(tmp_path / "a"))])
    assert said.startswith("tracker=tensorboard was not told: FileExistsError")
