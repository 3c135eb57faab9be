"""What a sweep leaves beside its jobs: their pictures side by side, how each ended, and the report."""

from __future__ import annotations

from pathlib import Path

from launcher.problems import RunFailed
from launcher.records.sweep_log import SweepJob, write_sweep
from launcher.running.hold import is_held
from launcher.running.screen import Screen
from launcher.running.sweep import Sweep, recorded, refusal
from launcher.running.sweep_folder import CONTACT


def contact_sheet(sweep: Sweep, folder: Path, screen: Screen) -> None:
    """Put the pictures side by side, if there are any.

    Raises:
        RunFailed: the sheet can't be written.
    """
    pictures = sweep.pictures()
    if not pictures:
        return
    from launcher.records import contact  # Pillow, which a refused sweep does not wait for

    try:
        contact.contact_sheet(pictures, folder / CONTACT)
    except OSError as error:
        rule = "the table above holds, but the sheet of its pictures could not be made"
        raise RunFailed(f"{rule}: {error}") from error
    screen.contact_sheet(folder / CONTACT)


def closeness(sweep: Sweep, folder: Path) -> dict[Path, str]:
    """How near the first picture of each job's folder is to its baseline's, as the report tells it."""
    if not sweep.pictures():
        return {}
    from launcher.reporting.rows import rows

    try:
        found = rows([folder], is_held)
    except OSError:  # the report tells why
        return {}
    return {row.path.absolute(): row.closeness for row in found if row.path is not None and row.closeness}


def report(sweep: Sweep, folder: Path, screen: Screen) -> None:
    """Write what the sweep has found, with the jobs that were refused; what was made stays if that fails.

    Raises:
        RunFailed: a file can't be written.
    """
    jobs = [
        SweepJob(number, tuple(recorded(job.words)), job.status or "not run", refusal(job))
        for number, job in enumerate(sweep.jobs)
    ]
    try:
        write_sweep(folder, jobs)
        if not sweep.pictures():
            return
        from launcher.reporting import page

        page.write([folder], folder, is_held)
    except OSError as error:
        rule = "the table above holds, but the report of the sweep could not be written"
        raise RunFailed(f"{rule}: {error}") from error
    screen.report(folder / page.HTML)
