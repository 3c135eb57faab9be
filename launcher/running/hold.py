"""A folder that a launcher works in is its own: a lock that the system releases when the process dies.

The lock is `flock` on a file in the folder. Linux and macOS take it on local disks. Linux passes it on to an NFS
server, so that it holds between hosts, unless the file system is mounted with `nolock` or its server has no locks.
Where there are none a folder is still claimed once, by a file that must not exist yet, but nobody can tell a live owner
from a dead one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from launcher.problems import Problem, Refused

NAME = ".lock"


@contextlib.contextmanager
def held(folder: Path, value: str) -> Iterator[None]:
    """Hold a folder, which is made if it is not there; its lock is gone afterwards.

    Args:
        value: the setting that named the folder, for the refusal.

    Raises:
        Refused: another process holds it, or no file of ours has the lock's name.
        OSError: it can't be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise Refused([Problem(value, f"its {NAME} is not a regular file", "remove it, or choose another folder")])
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(path, lock):  # its owner removed it just now: the next one would make another
                raise BlockingIOError
        except BlockingIOError:
            owner = os.read(lock, 200).decode(errors="replace").strip() or "another launcher"
            rule, instead = f"{owner} is at work there", "wait for its end, or choose another folder"
            raise Refused([Problem(value, rule, instead)]) from None
        except OSError:  # no locks on this file system
            pass
        try:
            os.ftruncate(lock, 0)
            os.write(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            yield
        finally:
            path.unlink(missing_ok=True)  # before it is released: whoever opened it meanwhile finds what was made here
    finally:
        os.close(lock)


def _is_at(path: Path, lock: int) -> bool:
    """Whether an open lock is the file of that name."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(lock))
    except FileNotFoundError:
        return False


def is_held(folder: Path) -> bool:
    """Whether a live process works in the folder."""
    try:
        lock = os.open(folder / NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
    return False
