"""A sweep for the screen: its first lines, a line for each job, and the table at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from launcher.running.sweep import DONE, FAILED, KEPT, REFUSED, Job, Sweep, pairs
from launcher.wording import plural, shorten

MAX_VALUES = 6  # of a varied setting, in the first line of a sweep


def opening(sweep: Sweep, folder: Path, notes: list[str]) -> str:
    """How many jobs there are, and what they differ in; the illegal ones with their reasons, if they may not be."""
    parts = []
    for key, found in sweep.varied.items():
        more = ", ..." if len(found) > MAX_VALUES else ""
        parts.append(f"{key} ({shorten(', '.join(found[:MAX_VALUES]))}{more})")
    count = plural(len(sweep.jobs), "job")
    lines = [f"{'sweep':<10} {count}" + (": " + " x ".join(parts) if parts else ""), f"{'run':<10} {folder}"]
    lines += [f"{'note':<10} {shorten(note, 200)}" for note in notes]
    for number, job in enumerate(sweep.jobs):
        if job.status == KEPT:
            lines.append(f"{'kept':<10} {label(sweep, number)}, already done")
        if job.earlier:
            lines.append(f"{'again':<10} {label(sweep, number)}, {job.earlier}")
        for problem in () if sweep.allow_refused else job.problems:
            lines.append(f"{'refused':<10} {label(sweep, number)}: {problem}")
    if sweep.allow_refused and (refused := sum(job.status == REFUSED for job in sweep.jobs)):
        lines.append(f"{'refused':<10} {plural(refused, 'job')}, for the reasons in the table at the end")
    return "\n".join(lines)


def line(sweep: Sweep, number: int) -> str:
    """How a job ended, in one line."""
    job = sweep.jobs[number]
    result = f"failed  {job.reason}" if job.status == FAILED else "  ".join(filter(None, _cells(job)))
    return f"{label(sweep, number)}  {result}"


def table(sweep: Sweep, closeness: Mapping[Path, str]) -> str:
    """All jobs: what varied, how each ended, its step time, peak memory and first picture or its reason.

    Args:
        closeness: of the first picture in a job's folder to its baseline's; a column where there is any.
    """
    near = [closeness.get(job.folder.absolute(), "") if job.folder else "" for job in sweep.jobs]
    heads = ["job", *sweep.varied, "status", "s/step", "peak MiB", *["PSNR dB"] * any(near), "picture or reason"]
    rows = [heads]
    for number, job in enumerate(sweep.jobs):
        values = dict(pairs(job.words))
        status, pace, peak, result = _cells(job)
        numbers = [pace.removesuffix(" s/step"), peak.removesuffix(" MiB")]
        varied = [shorten(values.get(key, ""), 40) for key in sweep.varied]
        rows.append([str(number), *varied, status, *numbers, *[near[number]] * any(near), result])
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * min(width, 60) for width in widths))
    counts = {status: sum(job.status == status for job in sweep.jobs) for status in (DONE, KEPT, FAILED, REFUSED)}
    lines.append(", ".join(f"{count} {status}" for status, count in counts.items() if count) or "nothing was run")
    return "\n".join(lines)


def label(sweep: Sweep, number: int) -> str:
    """Which job of how many, and what it varies."""
    width = len(str(len(sweep.jobs)))
    return f"[{number + 1:>{width}}/{len(sweep.jobs)}] {sweep.varying(sweep.jobs[number])}".rstrip()


def _cells(job: Job) -> tuple[str, str, str, str]:
    if job.status != DONE:
        return job.status or "not run", "", "", shorten(job.reason, 120)
    assert job.made is not None
    peak = f"{max(job.made.record.peak_bytes or (0,)) / 2**20:.0f} MiB"
    return DONE, f"{job.pace:.3g} s/step", peak, str(job.first)
