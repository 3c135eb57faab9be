"""The report's two files: report.html, which holds all it needs, and report.md."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from launcher.records import runs
from launcher.records.compare import difference_map
from launcher.records.files import whole
from launcher.records.picture import first_frame
from launcher.reporting.plots import plots
from launcher.reporting.rows import Row, rows
from launcher.wording import plural, shorten

HTML, MARKDOWN = "report.html", "report.md"
HERE = Path(__file__).parent
SIDE = 320  # pixels: pictures are scaled down to it
MOST = 60  # rows whose pictures are shown
PARTS = ("environment", "versions")
STATUSES = ("done", "failed", "refused", "interrupted", "killed", "running", "queued", "broken")


@dataclass(frozen=True)
class Shown:
    """A picture of a row, and where it differs from its baseline's, as data: URLs; "" where there is none."""

    row: Row
    picture: str
    apart: str


@dataclass(frozen=True)
class Fact:
    """A line of the environment: values are those that the runs tell, one if they agree."""

    name: str
    values: tuple[str, ...]


def write(
    folders: Sequence[Path], place: Path, is_held: Callable[[Path], bool], baseline: Path | None = None
) -> list[Row]:
    """Write report.html and report.md into `place`, of all runs below some folders; gives the rows that they tell of.

    Raises:
        OSError: a file can't be written; no file of its name is left half-written.
    """
    found = rows(folders, is_held, baseline)
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "cell": cell, "mebibytes": mebibytes}
    script = (HERE / "report.js").read_text(encoding="utf-8")
    told = {
        "title": f"{plural(len(found), 'run')}: {', '.join(shorten(folder.absolute().name, 60) for folder in folders)}",
        "rows": found,
        "counts": {status: sum(row.status == status for row in found) for status in STATUSES},
        "plots": plots(found),
        "facts": facts(folders, is_held),
        "commands": list(dict.fromkeys(row.command for row in found if row.command)),
        "skips": any(row.told_skipped for row in found),
        "several_models": len({row.model for row in found}) > 1,
    }
    style = (HERE / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template("report.html.jinja").render(
        **told, pictures=shown(found), script=script, style=style, script_digest=digest
    )
    environment.autoescape = False
    text = environment.get_template("report.md.jinja").render(**told)
    for name, content in ((HTML, page), (MARKDOWN, text)):
        with whole(place / name) as temporary:
            temporary.write_text(content, encoding="utf-8", errors="backslashreplace")
    return found


def facts(folders: Iterable[Path], is_held: Callable[[Path], bool]) -> list[Fact]:
    """What the runs tell of where they were made."""
    found: dict[str, dict[str, None]] = {}
    for folder in folders:
        for run in runs.find(folder, is_held):
            told = {name: run.data.get(name) for name in ("devices", "checkout")}
            flat = {key: value for part in PARTS for key, value in _dict(run.data.get(part)).items()} | told
            for name, value in flat.items():
                if value not in (None, [], {}):
                    found.setdefault(name, {})[value if isinstance(value, str) else json.dumps(value)] = None
    return [Fact(name, tuple(values)) for name, values in sorted(found.items())]


def _dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def shown(found: Sequence[Row]) -> list[Shown]:
    """The pictures of a report, small, each with where it differs from its baseline."""
    by_label = {row.label: row for row in found}
    pictures = []
    for row in [row for row in found if row.picture][:MOST]:
        base = by_label.get(row.baseline or "")
        own = _read(row.picture)
        other = _read(base.picture) if base is not None and row.apart is not None and not row.apart.same else None
        apart = difference_map(own, other) if own and other and own.size == other.size else None
        pictures.append(Shown(row, _url(own), _url(apart)))
    return pictures


def _read(path: Path | None) -> Image.Image | None:
    try:
        return None if path is None else first_frame(path)
    except OSError:  # a report does without the picture
        return None


def _url(picture: Image.Image | None) -> str:
    if picture is None:
        return ""
    picture = picture.convert("RGB")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, format="webp", quality=90)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many digits, or a dash."""
    return "–" if value is None else f"{value:.{digits}g}"


def mebibytes(value: int | None) -> str:
    """A size in MiB, or a dash."""
    return "–" if value is None else f"{value / 2**20:.0f}"


def cell(value: object) -> str:
    """A text as a cell of a Markdown table."""
    told = shorten(str(value), 400).replace("\\", "\\\\").replace("|", "\\|")
    return told.replace("<", "&lt;").replace("`", "\\`").replace("[", "\\[")
