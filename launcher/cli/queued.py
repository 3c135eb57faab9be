"""Runs that were handed to Slurm: a job that was cancelled in the queue can't write down that it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from launcher import slurm
from launcher.problems import Refused
from launcher.records.runs import KILLED, Run

QUEUED = "queued"


def looked_at(runs: Iterable[Run]) -> Iterator[Run]:
    """The runs, those that wait as Slurm knows them; where it does not answer, as they were recorded."""
    answers = True
    for run in runs:
        if run.status == QUEUED and answers and (number := job_of(run)):
            try:
                if not slurm.state(number):
                    yield dataclasses.replace(run, status=KILLED, reason=f"Slurm job {number} is gone")
                    continue
            except Refused:
                answers = False
        yield run


def job_of(run: Run) -> str:
    """The number of its job, "" if it has none."""
    told = run.data.get("slurm")
    number = told.get("id") if isinstance(told, dict) else None
    return number if isinstance(number, str) and number.isascii() and number.isdigit() else ""
