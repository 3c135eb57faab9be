"""Whether two machines see the same files: the run's folder, by a token in it, and the model's, by what they hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

from launcher.records.files import sha256
from launcher.wire.agents import Look, Seen
from launcher.wording import plural, shorten

SMALL = 1 << 20  # bytes of files that are compared by what they hold; larger ones by their size
MOST_FILES = 10_000
TOKEN = ".launcher-shared"  # the file in a run's folder by which another machine tells that it is the same folder


def difference(seen: Seen, mine: dict[str, str], run: Path, model: str) -> str:
    """What another machine does not see as this one does, and what to type, as words behind its name; "" if it does.

    Args:
        seen: what it has told.
        mine: `listing` of the model's folder here.
    """
    if not seen.shared:
        return (
            f"does not see the run's folder {shorten(str(run), 80)}: type output.dir=FOLDER, of a folder that all "
            "machines share, under one path"
        )
    different = [name for name in sorted(set(mine) | set(seen.files)) if mine.get(name) != seen.files.get(name)]
    if not different:
        return ""
    return (
        f"{'lacks' if different[0] not in seen.files else 'has another'} {shorten(different[0], 60)} of the model in "
        + shorten(model, 80)
        + (f", and {plural(len(different) - 1, 'other file')} differ" if len(different) > 1 else "")
        + ": copy the model there, or type model.path=FOLDER of a folder that all machines share"
    )


def listing(folder: str) -> dict[str, str]:
    """The files of a model's folder by name: the SHA-256 of small ones, the size of others; empty if it is none."""
    root = Path(folder)
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")) if root.is_dir() else ():
        if path.is_file() and len(found) < MOST_FILES and "__pycache__" not in path.parts:
            size = path.stat().st_size
            found[str(path.relative_to(root))] = sha256(path) if size <= SMALL else f"{size} bytes"
    return found


def fits(look: Look) -> bool:
    """Whether the file that the launcher has written is here."""
    try:
        found = Path(look.path).read_bytes()[:1024]
    except OSError:
        return False
    return hashlib.sha256(found).digest() == hashlib.sha256(look.token.encode()).digest()
