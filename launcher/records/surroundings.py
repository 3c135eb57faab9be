"""Where a run was made: the machine without its name, and the commit of this program."""

from __future__ import annotations

import functools
import platform
import subprocess
from pathlib import Path

from launcher.records.record import Checkout

PATIENCE = 5.0  # seconds that git has for an answer
ROOT = Path(__file__).parents[2]


@functools.cache
def machine(cuda: bool) -> dict[str, str]:
    """Operating system and processor, and with `cuda` the driver."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return {"system": system, "processor": _processor(), **({"driver": _driver()} if cuda else {})}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _driver() -> str:
    try:
        import pynvml

        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
        pynvml.nvmlShutdown()
    except Exception as error:  # the library has an exception for each of the driver's codes
        return f"not known ({type(error).__name__})"
    return str(version.decode() if isinstance(version, bytes) else version)


@functools.cache
def checkout(root: Path = ROOT) -> Checkout | None:
    """The commit that this program runs from; None where it is not a checkout of its own, or git is not there."""
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None or changed is None else Checkout(commit.strip(), bool(changed.strip()))


def _git(root: Path, *words: str) -> str | None:
    try:
        line = ["git", "-C", str(root), "--no-optional-locks", *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
