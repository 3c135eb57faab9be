"""A group's private folder: the socket it is reached by, the store its ranks find each other in, what torch caches.

It goes with the group. A launcher that is killed leaves it behind, and the next one that starts ranks sweeps it: the
owner holds a lock on a file in it, which the system releases when the process is gone, however it ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from launcher.problems import RunFailed
from launcher.reading import UnreadableError, parse_json, read_text
from launcher.records.files import remove_unfinished

PREFIX = "launcher-"
LOCK = "ring-anything-launcher.lock"  # tells the folder from those of other programs
RUNS = "runs"
SOCKET = "ranks"
LONGEST = 103 - len(f"/{PREFIX}12345678/{SOCKET}")  # bytes of the folder above: a socket's path has 103 on macOS
MAX_RUNS = 16 << 20  # bytes of the list of runs that are read


class GroupFolder:
    """A new folder that nobody else may enter, in the first of the usual places where a socket's path is short enough.

    Raises:
        RunFailed: there is no such place.
    """

    def __init__(self) -> None:
        places = list(_places())
        for place in places:
            _sweep(place)
        for place in places:
            with contextlib.suppress(OSError):  # not writable, or full
                self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))  # mode 0700
                break
        else:
            tried = ", ".join(map(str, places)) or os.environ.get("TMPDIR", "/tmp")
            raise RunFailed(f"no folder for temporary files can be used (tried {tried}); set TMPDIR to a short path")
        # A file object, which closes its descriptor once: a group is ended more than once, and meanwhile the number is
        # somebody else's.
        self._lock = (self.path / LOCK).open("w", encoding="utf-8")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    @property
    def socket(self) -> str:
        """Where the launcher listens while ranks start."""
        return str(self.path / SOCKET)

    def serves(self, run: Path) -> None:
        """Note that the group works in this run's folder: a sweep removes what was left half-written there."""
        with contextlib.suppress(OSError), (self.path / RUNS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(str(run.absolute())) + "\n")

    def remove(self) -> None:
        """Remove the folder with all that is in it; no harm is done if it was removed before."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _places() -> Iterator[Path]:
    """Where temporary files go, and where else a socket's path would be short."""
    with contextlib.suppress(OSError):  # none of the usual ones can be written to
        yield from (place for place in [Path(tempfile.gettempdir())] if _short(place))
    others = [os.environ.get("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp"]
    yield from (Path(place) for place in others if place and os.path.isdir(place) and _short(Path(place)))


def _short(place: Path) -> bool:
    return len(os.fsencode(place.absolute())) <= LONGEST


def _sweep(place: Path) -> None:
    """Remove the folders of launchers that are gone, and what their ranks left half-written."""
    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, another program's, or swept by somebody else meanwhile
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the owner lives
                for run in _runs(folder):
                    remove_unfinished(run)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _runs(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(UnreadableError):
        for line in read_text(folder / RUNS, MAX_RUNS).splitlines():
            run = parse_json(line)
            if isinstance(run, str) and os.path.isfile(os.path.join(run, "run.json")):
                yield Path(run)
