"""What the checks on a GPU found, as attention_backends/gpu.json, and as the README's tables of it.

python tests/gpu/report.py      # writes the tables into attention_backends/README.md anew
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent.parent / "attention_backends"
BEGIN, END = "<!-- by tests/gpu/report.py from gpu.json -->", "<!-- end -->"
LIBRARIES = ("diffusers", "transformers", "triton", "flash-attn", "flash-attn-3", "sageattention")
NOT_RUN = "not run"  # when the run was interrupted
EXACT = ("kernels", "ranks", "with_compile")  # sections of errors


class Report:
    """Figures as they come; a skipped test is noted with its reason and a failed one with its error."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.checks: list[dict[str, Any]] = []
        self.tests: dict[str, str] = {}  # "passed", "skipped: why", "failed: why" or "not run"

    def check(self, section: str, name: str, figure: float, limit: float | None = None, unit: str = "") -> None:
        """One figure, named `row: column`; without a limit it is told and not judged."""
        row, column = name.rsplit(": ", 1)
        figure = float(f"{figure:.4g}")
        passed = limit is None or figure <= limit  # NaN is not
        told = {"section": section, "row": row, "name": column, "figure": figure, "unit": unit}
        self.checks.append({**told, "limit": limit, "passed": passed})

    def ended(self, name: str, outcome: Any) -> None:
        """What pytest says of a stage of a test; the worst counts."""
        if outcome.skipped:
            why = outcome.longrepr[2] if isinstance(outcome.longrepr, tuple) else str(outcome.longrepr)
            self.tests[name] = why.replace("Skipped", "skipped")
        elif outcome.failed:
            crash = getattr(outcome.longrepr, "reprcrash", None)
            said = (crash.message if crash else str(outcome.longrepr)).strip().replace(f"{PACKAGE.parent}/", "")
            self.tests[name] = f"failed: {said.splitlines()[0][:200]}"
        elif self.tests.get(name, NOT_RUN) == NOT_RUN:
            self.tests[name] = "passed"

    def asdict(self) -> dict[str, Any]:
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "sources": sources(),
            **machine(),
            "seconds": round(time.monotonic() - self.began, 1),
            "tests": self.tests,
            "checks": self.checks,
        }


def write(found: dict[str, Any], path: Path) -> None:
    """One line a check, so that a difference can be read."""
    checks = ",\n  ".join(json.dumps(one) for one in found["checks"])
    head = json.dumps({**found, "checks": []}, indent=1).removesuffix("[]\n}")
    path.write_text(f"{head}[\n  {checks}\n ]\n}}\n", encoding="utf-8")


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
        if "build" not in path.parts:
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


def summary(found: dict[str, Any]) -> list[str]:
    """How many tests ended how; what failed and what was skipped, with the reasons."""
    ends = list(found["tests"].values())
    words = ("passed", "failed", "skipped", NOT_RUN)
    lines = [f"Tests: {', '.join(f'{sum(told.startswith(word) for told in ends)} {word}' for word in words)}."]
    lines += _above([one for one in found["checks"] if not one["passed"]])
    lines += [
        f"{name}: {told}." for name, told in found["tests"].items() if told.startswith("failed") or told == NOT_RUN
    ]
    reasons = {told for told in ends if told.startswith("skipped")}
    return [*lines, *sorted(f"{reason.capitalize()}." for reason in reasons)]


def _above(wrong: list[dict[str, Any]]) -> list[str]:
    """Of figures of one kind the worst; what is no number is."""
    kinds: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for one in wrong:
        kinds.setdefault((one["section"], one["name"], one["limit"]), []).append(one)
    lines = []
    for (_, name, limit), some in kinds.items():
        worst = max(some, key=lambda one: math.inf if math.isnan(one["figure"]) else one["figure"])
        more = f", the worst of {len(some)}" if len(some) > 1 else ""
        lines.append(f"Above its limit: {worst['row']}, {name}: {shown(worst)} ({limit:g}){more}.")
    return lines


def shown(one: dict[str, Any]) -> str:
    """A figure as the tables have it: three digits."""
    figure = one["figure"]
    return f"{figure:.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def pivot(checks: list[dict[str, Any]], head: str) -> list[str]:
    """A table with a line a row and a column a name; of several figures in a cell the largest."""
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for one in checks:
        at = one["row"], one["name"] + (f", {one['unit']}" if one["unit"] else "")
        if at not in cells or not one["figure"] <= cells[at]["figure"]:  # what is no number is the worst
            cells[at] = one
    rows, columns = (list(dict.fromkeys(key[axis] for key in cells)) for axis in (0, 1))
    lines = [f"| {' | '.join([head, *columns])} |", f"| {' | '.join(['---'] * (1 + len(columns)))} |"]
    for name in rows:
        told = [shown(cells[name, column]) if (name, column) in cells else "" for column in columns]
        lines.append(f"| {' | '.join([name, *told])} |")
    return lines


def tables(found: dict[str, Any], current: str) -> str:
    """The README's part; current: the digest of the sources as they are now."""
    versions, checks = found["versions"], found["checks"]
    libraries = ", ".join(f"{name} {versions[name]}" for name in ("torch", "cudnn", "triton", "diffusers"))
    lines = [
        f"`make gpu` on one {found['device']} ({found['memory_gib']} GiB, driver {found['driver']}; {libraries}), "
        f"{found['date'][:10]}, commit {found['commit']}, in {found['seconds']:.0f} s. Every figure: "
        "[gpu.json](gpu.json).",
        "",
        *(f"- {line}" for line in summary(found)),
    ]
    if found["sources"] != current:
        lines.append(
            f"- **Not run on CUDA since commit {found['commit']}**: this package's sources have changed since."
        )
    theirs = [one for one in checks if one["row"].startswith("torch's ")]  # what its operators do by themselves
    sizes = [one for one in checks if one["section"] == "size"]
    steps = {one["row"] for one in sizes if one["name"] == "a step"}
    parts = {
        ("Largest errors against float64", "of"): [
            {**one, "row": _head(one)} for one in checks if one["section"] in EXACT and one not in theirs
        ],
        ("Real size, random weights", "model, share, way"): [one for one in sizes if one["row"] in steps],
        ("The card, attention by itself, copies and merges", "what"): [
            one for one in sizes if one["row"] not in steps and one not in theirs
        ],
        ("By host memory", "what"): [one for one in checks if one["section"] == "transport"],
        ("The launcher", "what"): [one for one in checks if one["section"] == "launcher"],
        ("Families' tiny twins, levels of 255, the worst of them", "way"): [
            {**one, "row": _tail(one)} for one in checks if one["section"] == "families"
        ],
        ("What torch's operators do by themselves", "operator"): theirs,
    }
    pages = ["\n".join(lines)]
    for (title, head), some in parts.items():
        if some:
            pages.append(f"{title}:\n\n" + "\n".join(pivot(some, head)))
    return "\n\n".join(pages)


def _head(one: dict[str, Any]) -> str:
    """What was attended with, in which dtype: the cases of it are one line."""
    return str(one["row"]).partition(",")[0]


def _tail(one: dict[str, Any]) -> str:
    """Without whose it is."""
    return str(one["row"]).partition(", ")[2]


def readme(text: str, found: dict[str, Any], current: str) -> str:
    """The README with its generated part anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables(found, current)}\n{END}{after}"


if __name__ == "__main__":
    page = PACKAGE / "README.md"
    told = json.loads((PACKAGE / "gpu.json").read_text(encoding="utf-8"))
    page.write_text(readme(page.read_text(encoding="utf-8"), told, sources()), encoding="utf-8")
