"""What a report tells of each run: a row of its table, from its record, or from what a sweep wrote of a refused job."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.records import runs
from launcher.records.compare import Difference, difference
from launcher.records.record import cp_option
from launcher.records.runs import Run
from launcher.records.sweep_log import read_sweep
from launcher.wording import shorten


@dataclass(frozen=True)
class Row:
    """One run, or one job that was refused.

    Args:
        label: what sets it apart from the others of the report.
        folder: as it is shown, without what lies above the report's own; path: where it is.
        shape: height x width of what was asked for, in pixels, and frames of a video.
        skipped: of its steps, those that a cache stood in for, in the first picture.
        tokens: of all streams together. step: seconds, as `step_time` has it. peak: bytes of its fullest rank.
        picture: its first one, if it is there. baseline: the row that it is compared with, by label; "" for itself.
    """

    label: str
    folder: str
    status: str
    reason: str = ""
    model: str = ""
    mode: str = ""
    cache: str = "none"
    quantization: str = "none"
    compiled: str = "none"
    skipped: int = 0
    steps: int | None = None
    degrees: str = ""
    ranks: int | None = None
    shape: str = ""
    tokens: int | None = None
    step: float | None = None
    peak: int | None = None
    seconds: float | None = None
    times: dict[str, float] = field(default_factory=dict)
    prompt: str = ""
    seed: int | None = None
    command: str = ""
    picture: Path | None = None
    baseline: str | None = None
    speedup: float | None = None
    ideal: float | None = None
    apart: Difference | None = None
    path: Path | None = None
    alike: tuple[Any, ...] = ()  # what two rows share that can be compared

    @property
    def rate(self) -> float | None:
        """Denoising steps a second."""
        return 1 / self.step if self.step else None

    @property
    def told_skipped(self) -> str:
        """How many of its steps a cache stood in for; "" where there is no cache."""
        return "" if self.cache == "none" else f"{self.skipped} of {self.steps}"

    @property
    def closeness(self) -> str:
        """How near its first picture is to its baseline's: PSNR in dB, or "same"; "" where there is nothing to tell."""
        if self.apart is None or self.apart.psnr is None:
            return "same" if self.apart is not None and self.apart.same else ""
        return f"{self.apart.psnr:.3g}"

    @property
    def backend(self) -> str:
        """Mode and degrees, as a plot's legend and the table name them."""
        return f"{self.mode} {self.degrees}".strip() if self.mode not in ("", "none") else self.mode


def rows(folders: Iterable[Path], is_held: Callable[[Path], bool], baseline: Path | None = None) -> list[Row]:
    """The rows of all runs below some folders, oldest first, and of what their sweeps refused.

    Args:
        baseline: the run that others are compared with; None: of those that ask for the same picture the one on a
            single rank that skips no step and has neither quantised weights nor compiled steps, or else as near to
            that as one of them comes: no steps skipped and whole weights first.
    """
    found, refused = [], []
    for folder in folders:
        found += [_shown(run, folder) for run in runs.find(folder, is_held)]
        refused += [job for job in read_sweep(folder) if job.status == "refused"]
    found.sort(key=lambda run: (str(run.data.get("started")), _natural(run.folder)))
    words = [_words(run.data.get("overrides")) for run in found] + [_words(job.overrides) for job in refused]
    labels = _labels(words, [run.folder for run in found] + [f"job {job.number}" for job in refused])
    made = [_row(run, label) for run, label in zip(found, labels, strict=False)]
    made = [_compared(row, made, baseline) for row in made]
    rest = zip(refused, labels[len(found) :], words[len(found) :], strict=True)
    return made + [
        Row(label, "", "refused", job.reason, model=told.get("model", ""), mode=told.get("cp", ""))
        for job, label, told in rest
    ]


def _shown(run: Run, folder: Path) -> Run:
    return dataclasses.replace(run, folder=str(Path(folder.absolute().name, run.folder)))


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Jobs 2 and 10 of a sweep in that order."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in Path(name).parts)


def _words(overrides: object) -> dict[str, str]:
    words = overrides if isinstance(overrides, (list, tuple)) else ()
    return {key.lstrip("+"): value for key, _, value in (str(word).partition("=") for word in words)}


def _labels(words: list[dict[str, str]], names: list[str]) -> list[str]:
    """What sets each apart by the settings that were typed; where that is not enough, its name too."""
    keys = dict.fromkeys(key for one in words for key in one)
    varied = [key for key in keys if len({one.get(key) for one in words}) > 1]
    labels = [shorten(" ".join(f"{key}={one[key]}" for key in varied if key in one), 80) for one in words]
    unlike = [label and labels.count(label) == 1 for label in labels]
    return [
        label if enough else f"{label} ({name})".strip()
        for label, name, enough in zip(labels, names, unlike, strict=True)
    ]


def _row(run: Run, label: str) -> Row:
    height, width, frames = (run.setting(name) for name in ("height", "width", "frames"))
    ring, ulysses = run.setting("cp.ring_degree"), run.setting("cp.ulysses_degree")
    ranks, steps, files = run.setting("runtime.processes"), run.setting("steps"), run.data.get("files")
    first = files[0] if isinstance(files, list) and files and isinstance(files[0], dict) else {}
    picture = run.path / Path(str(first.get("file", ""))).name
    seconds, seed = run.data.get("seconds"), run.data.get("seed")
    return Row(
        label=label,
        folder=run.folder,
        path=run.path,
        status=run.status,
        reason=run.reason,
        model=str(run.setting("model.name") or ""),
        mode=cp_option(run.setting("cp")) or "",
        cache=str(run.setting("cache.name") or "none"),
        quantization=str(run.setting("quantization") or "none"),
        compiled=str(run.setting("compile") or "none"),
        skipped=run.skipped,
        steps=steps if isinstance(steps, int) else None,
        degrees=f"{ring} x {ulysses}" if ring and ulysses else "",
        ranks=ranks if isinstance(ranks, int) else None,
        shape=f"{height} x {width}" + (f" x {frames}" if frames else "") if height and width else "",
        tokens=_tokens(run),
        step=run.step,
        peak=run.peak,
        seconds=float(seconds) if isinstance(seconds, (int, float)) else None,
        times=_times(run),
        prompt=run.prompt,
        seed=seed if isinstance(seed, int) else None,
        command=str(run.data.get("command") or ""),
        picture=picture if first and picture.is_file() and not picture.is_symlink() else None,
        alike=(*map(run.setting, ("model.name", "model.path", "steps")), height, width, frames, run.prompt, seed),
    )


def _tokens(run: Run) -> int | None:
    ranks = run.data.get("tokens_per_rank")
    streams = [rank for rank in ranks if isinstance(rank, dict)] if isinstance(ranks, list) else []
    return sum(count for rank in streams for count in rank.values() if isinstance(count, int)) or None


def _times(run: Run) -> dict[str, float]:
    times = run.data.get("times")
    found = times.items() if isinstance(times, dict) else ()
    return {stage: float(one) for stage, one in found if isinstance(one, (int, float))}


def _exactness(row: Row) -> tuple[bool, ...]:
    """What is False first is nearer to what the model draws by itself."""
    inexact = row.skipped > 0 or row.quantization != "none"
    return inexact, row.cache != "none", row.compiled != "none", row.mode != "none"


def _compared(row: Row, all_rows: list[Row], chosen: Path | None) -> Row:
    """A row with what sets its picture and its speed apart from its baseline's."""
    if chosen is not None:
        base = next((one for one in all_rows if one.path and one.path.absolute() == chosen.absolute()), None)
    else:
        same = [one for one in all_rows if one.status == "done" and one.alike == row.alike]
        same.sort(key=_exactness)
        base = same[0] if same else None
    if base is None or row.status != "done":
        return row
    if base == row:
        return dataclasses.replace(row, baseline="", speedup=1.0, ideal=1.0)
    comparable = row.alike == base.alike or chosen is not None
    speedup = base.step / row.step if comparable and base.step and row.step else None
    ideal = row.ranks / base.ranks if row.ranks and base.ranks else None
    apart = difference(row.picture, base.picture) if row.picture and base.picture else None
    return dataclasses.replace(row, baseline=base.label, speedup=speedup, ideal=ideal, apart=apart)
