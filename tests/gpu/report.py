"""What the checks on a GPU found, as attention_backends/gpu.json, and as the README's table of it.

python tests/gpu/report.py      # writes the table into attention_backends/README.md anew
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent.parent / "attention_backends"
BEGIN, END = "<!-- made by tests/gpu/report.py from gpu.json -->", "<!-- end -->"
LIBRARIES = ("diffusers", "transformers", "triton", "flash-attn", "flash-attn-3", "sageattention")


class Report:
    """Figures as they come; a skipped test is noted with its reason and a failed one with its error."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.checks: list[dict[str, Any]] = []
        self.tests: dict[str, str] = {}  # "passed", "skipped: why" or "failed: why"

    def check(self, name: str, figure: float, limit: float | None = None, unit: str = "") -> None:
        """One figure; without a limit it is told and not judged."""
        figure = float(f"{figure:.4g}")
        passed = limit is None or figure <= limit  # NaN is not
        self.checks.append({"name": name, "figure": figure, "unit": unit, "limit": limit, "passed": passed})

    def ended(self, name: str, outcome: Any) -> None:
        """What pytest says of a stage of a test; its last word counts."""
        if outcome.skipped:
            why = outcome.longrepr[2] if isinstance(outcome.longrepr, tuple) else str(outcome.longrepr)
            self.tests[name] = why.replace("Skipped", "skipped")
        elif outcome.failed:
            crash = getattr(outcome.longrepr, "reprcrash", None)
            self.tests[name] = f"failed: {(crash.message if crash else str(outcome.longrepr)).splitlines()[0][:200]}"
        else:
            self.tests.setdefault(name, "passed")

    def lines(self) -> list[str]:
        """For the screen."""
        shown = [
            f"{'' if one['passed'] else 'ABOVE ITS LIMIT '}{one['name']}: {one['figure']:g} {one['unit']}"
            + (f" (limit {one['limit']:g})" if one["limit"] is not None else "")
            for one in self.checks
        ]
        return shown + [f"{name}: {told}" for name, told in self.tests.items() if told != "passed"]

    def write(self, path: Path) -> None:
        found = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "sources": sources(),
            **machine(),
            "seconds": round(time.monotonic() - self.began, 1),
            "tests": self.tests,
            "checks": self.checks,
        }
        path.write_text(json.dumps(found, indent=1, allow_nan=True) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """The device, its driver, and the versions of what ran."""
    import torch

    try:
        ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.partition("\n")[0].strip()
    except OSError:
        driver = "not known"
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    versions["cudnn"] = str(torch.backends.cudnn.version())
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "driver": driver,
        "versions": versions,
    }


def sources(package: Path = PACKAGE) -> str:
    """A digest of the package's code."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def commit() -> str:
    """Of this checkout; the environment's GPU_COMMIT where the checkout came without its history."""
    if given := os.environ.get("GPU_COMMIT"):
        return given
    try:
        ask = ["git", "rev-parse", "--short", "HEAD"]
        return subprocess.run(ask, cwd=PACKAGE, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    except OSError:
        return "unknown"


if __name__ == "__main__":
    pass
