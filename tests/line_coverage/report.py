"""Print which lines of launcher/ no process of the tests ran: python tests/line_coverage/report.py FOLDER"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

from slipcover import Slipcover

ROOT = Path(__file__).parents[2]
LOOKED_AT = 85  # percent: a file below is printed with its missing lines


def main(folder: Path) -> None:
    """Add up what each process left in `folder`."""
    ran: dict[str, set[int]] = defaultdict(set)
    for process in folder.glob("*.json"):
        try:
            told = json.loads(process.read_text())
        except ValueError:  # of a process that a test killed while it wrote
            continue
        for name, lines in told.items():
            ran[name].update(lines)
    lines_of = {
        name: {*file["executed_lines"], *file["missing_lines"]}
        for name, file in Slipcover(source=[str(ROOT / "launcher")]).get_coverage()["files"].items()
        if not name.endswith("worker/compiling.py")  # sitecustomize.py says why
    }
    total = missed = 0
    for name, lines in sorted(lines_of.items()):
        missing = sorted(lines - ran[str(Path(name).absolute())])
        total, missed = total + len(lines), missed + len(missing)
        if lines:
            percent = 100 - 100 * len(missing) / len(lines)
            which = ", ".join(ranges(missing)) if percent < LOOKED_AT else ""
            print(f"{percent:5.1f}%  {Path(name).absolute().relative_to(ROOT)}  {which}".rstrip())
    print(f"{100 - 100 * missed / total:5.1f}%  of {total} lines of launcher/")


def ranges(numbers: list[int]) -> list[str]:
    """1, 2, 3, 7 as 1-3, 7."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return [f"{first}-{last}" if last > first else str(first) for first, last in found]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
