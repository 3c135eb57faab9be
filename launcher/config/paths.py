"""Where conf/ is; and every path that a user gives becomes the one that is used here, and nowhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from launcher.problems import Problem

PICTURES = ("image", "mask_image", "last_image", "video")  # and films
LONGEST_NAME = 255  # bytes: of Linux's and macOS' file systems
# Settings that are paths.
PATHS = (
    *("model.path", "model.base", "model.transformer", "model.vae", "lora.path", "prompt_file"),
    *(*PICTURES, "output.dir", "tracker.dir", "resume"),
)


def conf_dir() -> Path:
    """conf/: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def user_path(text: str) -> Path:
    """The absolute path that a text names: `~` is the home, and what is relative starts at the current folder.

    Raises:
        ValueError: no file can have this name; the message is the end of a sentence that starts with the value.
    """
    if not text:
        raise ValueError("is empty; an unset variable of the shell, perhaps")
    try:
        if "\0" in text:
            raise ValueError("holds a NUL character, which no file name can")
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:  # a lone surrogate that stands for no byte
        raise ValueError("holds a character that no file name can") from error
    if sys.getfilesystemencoding() != "utf-8":  # a name is bytes to the system, and those of UTF-8 here
        text = os.fsdecode(text.encode(errors="surrogateescape"))
    if long := next((name for name in text.split("/") if len(os.fsencode(name)) > LONGEST_NAME), None):
        raise ValueError(f"has a name of {len(os.fsencode(long))} bytes; the longest has {LONGEST_NAME}")
    path = os.path.expanduser(text)
    if path.startswith("~") and not os.path.lexists(path.partition("/")[0]):  # else such a file is meant
        raise ValueError(f"names a home that this machine doesn't know ({path.partition('/')[0]})")
    try:
        here = os.getcwd()
    except FileNotFoundError as error:
        if not os.path.isabs(path):
            raise ValueError("is relative, and the current folder was removed") from error
        here = "/"
    return Path(here, path)


def is_utf8(path: Path) -> bool:
    """Whether a path is UTF-8 text, as libraries in Rust and C++ take it."""
    try:
        os.fsencode(path).decode()
    except UnicodeError:
        return False
    return True


def path_problems(settings: dict[str, str | None]) -> Iterator[Problem]:
    """Those settings whose text can't be a path."""
    for name, text in settings.items():
        if text is None:
            continue
        try:
            user_path(text)
        except ValueError as error:
            yield Problem(f"{name}={text}", str(error), f"type {name}=PATH, or leave it out")
