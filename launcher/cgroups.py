"""What a container, a batch system or systemd lets this process have: the kernel's control groups, version 1 and 2.

A limit stands in a group or in any group above it, and the smallest one counts. In a container the file system shows
the container's own group as the top, so each folder on the way that is there is asked.
https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
UNLIMITED = 1 << 60  # bytes: version 1 writes a number near 2^63 where there is no limit


def cpu_quota(root: Path = ROOT, own: Path = OWN) -> float | None:
    """CPUs that this process may use at a time, such as 1.5; None without a limit."""
    found = []
    for group in _groups("", root, own):
        quota, _, period = _text(group / "cpu.max").partition(" ")
        found.append(_ratio(quota, period))
    for group in _groups("cpu", root, own):
        found.append(_ratio(_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")))
    return min((ratio for ratio in found if ratio is not None), default=None)


def memory(root: Path = ROOT, own: Path = OWN) -> tuple[int, int] | None:
    """The limit of this process's memory and what is left of it, in bytes; None without a limit."""
    found = [_limit(group / "memory.max", group / "memory.current") for group in _groups("", root, own)]
    for group in _groups("memory", root, own):
        found.append(_limit(group / "memory.limit_in_bytes", group / "memory.usage_in_bytes"))
    limits = [limit for limit in found if limit is not None]
    return (min(total for total, _ in limits), min(left for _, left in limits)) if limits else None


def _groups(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """The folders of this process's group and of those above it; controller: of version 1, "" for version 2."""
    path, mounted = "/", controller
    for line in _text(own).splitlines():
        _, controllers, place = [*line.split(":", 2), "", ""][:3]
        if controller in controllers.split(","):
            path, mounted = place, controllers
    tops = [top for top in dict.fromkeys((root / mounted, root / controller)) if top.is_dir()]
    for top in tops:
        folder = top / path.lstrip("/")
        yield from (each for each in (folder, *folder.parents) if each.is_relative_to(top) and each.is_dir())


def _limit(limit: Path, used: Path) -> tuple[int, int] | None:
    total = _number(_text(limit))
    if total is None or total >= UNLIMITED:
        return None
    return total, max(0, total - (_number(_text(used)) or 0))


def _ratio(quota: str, period: str) -> float | None:
    top, bottom = _number(quota), _number(period)
    return top / bottom if top and bottom and top > 0 else None


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # "max", or no such file
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):
        return ""
