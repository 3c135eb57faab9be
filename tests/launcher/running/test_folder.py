"""The private folder of a group: where it is, what happens to it when its launcher is killed."""

import os
import signal
import socket
import subprocess
import sys
import tempfile

import pytest

from launcher.problems import RunFailed
from launcher.running import folder
from launcher.running.folder import GroupFolder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where temporary files go."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return temporary


def test_a_folder_is_private_and_goes_with_its_group(place):
    one = GroupFolder()
    assert one.path.parent == place
    assert one.path.stat().st_mode & 0o777 == 0o700
    (one.path / "inductor").mkdir()
    one.remove()
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]  # one of them has the number that its lock had
    one.remove()
    assert list(place.iterdir()) == []
    for other in others:
        os.close(other)  # an error where somebody else has closed it


DIES = """
import os, signal, sys
from pathlib import Path
from launcher.running.folder import GroupFolder
group = GroupFolder()
for run in sys.argv[1:]:
    group.serves(Path(run))
with (group.path / "runs").open("a") as file:
    print("3", "[" * 5000, '"' + "x" * 5000 + '"', '"\\0"', "", sep="\\n", file=file)
group.serves(Path(sys.argv[1]))
(group.path / "ranks").touch()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_launcher_left_is_swept_by_the_next_one(place, tmp_path):
    """Its folder, and half-written files in the runs that it served; nothing of anybody else."""
    run, gone, other = tmp_path / "run", tmp_path / "gone", tmp_path / "other"
    for each in (run, other):
        each.mkdir()
        for name in ("run.json", ".0001.png.12.tmp", "0000.png"):
            (each / name).touch()
    foreign = place / "launcher-of-somebody-else"
    foreign.mkdir()
    alive = GroupFolder()
    alive.serves(other)
    line = [sys.executable, "-c", DIES, str(run), str(gone), "odd\nname"]
    ended = subprocess.run(line, env=os.environ | {"TMPDIR": str(place)}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(list(place.iterdir())) == 3
    new = GroupFolder()
    assert set(place.iterdir()) == {foreign, alive.path, new.path}
    assert {path.name for path in run.iterdir()} == {"run.json", "0000.png"}
    assert (other / ".0001.png.12.tmp").exists()
    for each in (alive, new):
        each.remove()


def test_a_place_whose_path_is_too_long_for_a_socket_is_passed_over(tmp_path, monkeypatch):
    long, short = tmp_path / ("x" * 140), tmp_path / "run"
    for each in (long, short):
        each.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    one = GroupFolder()
    assert one.path.parent == short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(one.socket)
    one.remove()


def test_no_place_at_all_is_told_in_words(monkeypatch, tmp_path):
    monkeypatch.setattr(folder, "_places", lambda: iter([tmp_path / "none"]))
    with pytest.raises(RunFailed, match=r"tried .*none\); set TMPDIR to a short path"):
        GroupFolder()
