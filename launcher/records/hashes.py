"""SHA-256 of large files, each computed once: what was found is kept, by path, size and time of change.

A file of the hub's cache is not even read: its blob is named by its SHA-256, as the hub has it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launcher.reading import UnreadableError, read_text
from launcher.records.files import sha256, whole
from launcher.records.record import Weights

DIGEST = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")


def cache(name: str = "sha256") -> Path:
    """Where hashes, or other things of that name, are kept: in the user's folder for caches.

    Raises:
        FileNotFoundError: a user without a home has none.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(base):  # "~" stays as it is where no home is known; and the folder is not the current one's
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), base)
    return Path(base) / "ring-anything-launcher" / name


def cached_sha256(path: Path) -> str:
    """The file's SHA-256, in hexadecimal.

    Raises:
        OSError: it can't be read.
    """
    real = path.resolve()
    if real.parent.name == "blobs" and DIGEST.fullmatch(real.name):
        return real.name
    state = real.stat()
    key = f"{real}\0{state.st_size}\0{state.st_mtime_ns}"
    name = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
    with contextlib.suppress(UnreadableError, FileNotFoundError):
        kept = cache() / name
        if DIGEST.fullmatch(found := read_text(kept, 64)):
            return found
    digest = sha256(real)
    with contextlib.suppress(OSError):  # no home, or no room in it: the next run computes it again
        kept = cache() / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        with whole(kept) as temporary:
            temporary.write_text(digest, encoding="ascii")
    return digest


def of_setting(setting: str, files: Sequence[Path]) -> dict[str, str]:
    """The SHA-256 of the files that a setting names.

    Raises:
        OSError: one can't be read.
    """
    return {setting if len(files) == 1 else f"{setting}: {path.name}": cached_sha256(path) for path in files}


def weights(folder: Path, files: Iterable[str] = ()) -> Weights:
    """Which weights a pipeline's folder holds.

    Args:
        files: those that count, by their paths in the folder; none: all that parts of a pipeline have.

    Raises:
        OSError: one can't be read.
    """
    names = list(files) or sorted(str(path.relative_to(folder)) for path in folder.glob("*/*.safetensors"))
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # hashlib lets go of the interpreter's lock
        digests = threads.map(cached_sha256, (folder / name for name in names))
        found = dict(zip(names, digests, strict=True))
    commit = folder.name if folder.parent.name == "snapshots" and COMMIT.fullmatch(folder.name) else None
    return Weights(found, commit)
