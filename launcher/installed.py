"""Which packages are installed, as pip knows them, by the names of their folders; nothing of them is imported.

`importlib.metadata` says the same, and to import it and to parse three packages' descriptions takes a tenth of a plan.
It is asked where no folder tells.
"""

from __future__ import annotations

import functools
import os
import re
import sys

END = ".dist-info"


def version(package: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    wanted = _normal(package)
    for place in sys.path:
        try:
            changed = os.stat(place or ".").st_mtime_ns
        except (OSError, ValueError):
            continue
        if (found := _packages(place or ".", changed).get(wanted)) is not None:
            return found
    from importlib import metadata

    try:
        return metadata.version(package)
    except (metadata.PackageNotFoundError, ValueError, OSError):  # the latter two for what is no name
        return None


@functools.lru_cache(64)
def _packages(place: str, changed: int) -> dict[str, str]:
    """The packages of one folder of sys.path, which was changed last at that time, and their versions."""
    try:
        names = os.listdir(place)
    except OSError:  # a zip file, say
        return {}
    pairs = (name.removesuffix(END).partition("-") for name in names if name.endswith(END))
    return {_normal(name): told for name, _, told in pairs if told}


def _normal(name: str) -> str:
    """A package's name as all its spellings are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
