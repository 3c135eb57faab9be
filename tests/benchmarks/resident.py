"""Main memory that processes hold together, by Linux's own accounting (`smaps`)."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil


def ranks(launcher: psutil.Process) -> list[int]:
    """The processes of the ranks below a launcher."""
    found = []
    for process in launcher.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if words[-1:] == ["launcher.worker"] and "accelerate.commands.launch" not in words:
                found.append(process.pid)
    return found


def together(pids: Iterable[int]) -> int:
    """Bytes that processes hold: each its own pages, and the pages of a file, or of shared memory, once.

    Of a file as many as the process has that has most of it. Unlike the sum of their PSS, which divides a page among
    all processes of the machine that have it, this is the same whatever else runs.
    """
    own, files = 0, Counter[str]()
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            mine, shared = _held(Path(f"/proc/{pid}/smaps").read_text())
            own += mine
            files |= shared  # the larger of the two, of each file
    return own + files.total()


def _held(smaps: str) -> tuple[int, Counter[str]]:
    """Bytes of a process's own pages, and of each file that it has mapped, by device and inode."""
    own, files, file = 0, Counter[str](), ""
    resident = 0
    for line in smaps.splitlines():
        key, *words = line.split(maxsplit=5)
        if not key.endswith(":"):
            file = f"{words[2]} {words[3]}"
        elif key == "Rss:":
            resident = int(words[0]) << 10
        elif key == "Anonymous:":
            own += int(words[0]) << 10
            files[file] += resident - (int(words[0]) << 10)
    return own, files
