"""Reading files that a user names: regular ones only, and no more of them than makes sense.

A pipe blocks for ever, /dev/zero never ends, and a file of a few gigabytes fills the memory: each is refused before.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MAX_JSON = 16 << 20  # bytes of a configuration or an index; those of the largest models have some hundred KiB
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class UnreadableError(ValueError):
    """Why a file cannot be read, as the end of a sentence that starts with its name."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file; gives the file and its size in bytes.

    Raises:
        UnreadableError: it is none, is not there, or a read within the block failed.
    """
    try:
        with _open(path) as file:
            status = os.fstat(file.fileno())
            _require_regular(status.st_mode)
            yield file, status.st_size
    except OSError as error:
        raise UnreadableError(f"can't be read ({error.strerror or type(error).__name__})") from error


def _open(path: Path) -> BinaryIO:
    try:
        _require_regular(path.stat().st_mode)
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")  # a pipe may have taken its place since
    except UnreadableError:
        raise
    except ValueError as error:  # a NUL or a lone surrogate
        raise UnreadableError("can't be read (no file can have this name)") from error


def _require_regular(mode: int) -> None:
    for is_kind, name in KINDS:
        if is_kind(mode):
            raise UnreadableError(f"is {name}, not a regular file")


def read_bytes(path: Path, limit: int) -> bytes:
    """The whole of a regular file of at most `limit` bytes.

    Raises:
        UnreadableError: it is none, or longer.
    """
    with opened(path) as (file, size):
        if size <= limit:
            content = file.read(limit + 1)  # what grows meanwhile is too long as well
            if content is None:  # some files of /proc and /sys block like a pipe: typeshed doesn't know
                raise UnreadableError("has no end: it waits for what comes, like a pipe")
            size = max(size, len(content))
        if size > limit:
            raise UnreadableError(f"is {size} bytes long; the limit is {limit}")
        return content


def read_text(path: Path, limit: int) -> str:
    """The same as UTF-8 text, without a byte order mark.

    Raises:
        UnreadableError: also where it is no UTF-8.
    """
    content = read_bytes(path, limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError("is not UTF-8 text") from error


def read_json(path: Path, limit: int = MAX_JSON) -> Any:
    """The same as JSON data.

    Raises:
        UnreadableError: also where it is no JSON.
    """
    return parse_json(read_text(path, limit))


def parse_json(text: str) -> Any:
    """JSON as data, however deep or odd it is.

    Raises:
        UnreadableError: it is no JSON.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UnreadableError("is not valid JSON (nested too deeply)") from error
    except ValueError as error:
        raise UnreadableError(f"is not valid JSON ({error})") from error


def read_json_object(path: Path, limit: int = MAX_JSON) -> dict[str, Any]:
    """The same, for a file that must hold an object.

    Raises:
        UnreadableError: also where it holds something else.
    """
    found = read_json(path, limit)
    if not isinstance(found, dict):
        raise UnreadableError("is not a JSON object")
    return found
