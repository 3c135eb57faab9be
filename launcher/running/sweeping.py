"""The jobs of a sweep run: one after another, by several groups of ranks at once, or by Slurm."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path

from omegaconf import DictConfig

from launcher import slurm
from launcher.problems import Interrupted, LauncherError, Problem, Refused
from launcher.running import deal, results
from launcher.running.places import Places, steps_of
from launcher.running.progress import Progress
from launcher.running.screen import Screen
from launcher.running.slot import Slot
from launcher.running.sweep import DONE, FAILED, QUEUED, Job, Sweep


class SweepRun:
    """Runs a sweep's jobs.

    Args:
        places: for the ranks.
        screen: where the sweep tells how it gets on.
        options: of the command line.
        sweep: its jobs, in which how each ended is noted.
    """

    def __init__(self, places: Places, screen: Screen, options: list[str], sweep: Sweep) -> None:
        self._places, self._screen, self._options, self._sweep = places, screen, options, sweep

    def run(self, master: DictConfig, folder: Path, notes: list[str], groups: int) -> bool:
        """Run the jobs that are neither refused nor done; false where Slurm has them and they are not waited for."""
        sweep = self._sweep
        self._screen.opening(sweep, folder, notes)
        stop = master.fail_fast and not sweep.allow_refused and any(job.problems for job in sweep.jobs)
        self._places.make(groups)
        left = {} if stop else {number: job for number, job in enumerate(sweep.jobs) if not job.status}
        try:
            if left and str(master.cluster.name) == "slurm" and slurm.JOB not in os.environ:
                if not self._in_array(master, left, folder):
                    return False
            elif groups > 1:
                self._at_once(master, left, groups)
            else:
                for number in deal.in_order(_kinds(left)):
                    job = left[number]
                    self._run(job, self._places.slots[0])
                    self._screen.job(sweep, number)
                    if master.fail_fast and job.status == FAILED:
                        break
        except (Interrupted, KeyboardInterrupt):
            self._screen.unfinished(folder)
            raise
        self._screen.table(sweep, results.closeness(sweep, folder))
        failed = any(job.status == FAILED for job in sweep.jobs)
        if failed and master.cluster.name != "none":  # a machine is gone, perhaps
            self._screen.unfinished(folder)
        results.contact_sheet(sweep, folder, self._screen)
        results.report(sweep, folder, self._screen)
        return True

    def _in_array(self, master: DictConfig, left: dict[int, Job], folder: Path) -> bool:
        """Have Slurm run jobs; false where they are not waited for."""
        from launcher.running.array import Array

        array = Array(self._sweep, _kinds(left), folder, self._options)
        self._screen.said(f"{'job':<10} {array}")
        if not master.cluster.wait:
            for job in left.values():
                job.status = QUEUED
            return False

        def told(number: int) -> bool:
            self._screen.job(self._sweep, number)
            return bool(master.fail_fast and left[number].status == FAILED)

        lines = self._screen.lines(self._sweep)
        try:
            array.wait(told, lines.show, self._screen.note)
        finally:
            lines.close()
        return True

    def _at_once(self, master: DictConfig, left: dict[int, Job], groups: int) -> None:
        """Run jobs on several groups of ranks at once."""
        environments = {str(dict(job.composed.hydra.job.env_set)) for job in left.values() if job.composed is not None}
        if len(environments) > 1:  # ranks keep what they were started with, and a job may go to any group
            raise Refused([Problem(f"data={groups}", "hydra.job.env_set differs between its jobs", "type data=1")])
        steps = sum(steps_of(job.request) for job in left.values() if job.request is not None)
        shared = deal.Shared(self._screen.board(steps))

        def run(number: int, group: int) -> None:
            job = left[number]
            assert job.request is not None
            job.request = deal.placed(job.request, group)
            what = f"[{number + 1}/{len(self._sweep.jobs)}] {self._sweep.varying(job)}".rstrip()
            self._run(job, self._places.slots[group], shared.job(group, what, steps_of(job.request)))

        def ended(number: int) -> bool:
            with shared.cleared():
                self._screen.job(self._sweep, number)
            return bool(master.fail_fast and left[number].status == FAILED)

        try:
            deal.deal(_kinds(left), groups, run, ended, shared.stopped)
        finally:
            shared.close()

    def _run(self, job: Job, slot: Slot, progress: Progress | None = None) -> None:
        """Run one job of a sweep; a failure is noted in it."""
        assert job.composed is not None
        assert job.request is not None
        assert job.folder is not None
        try:
            job.made = self._places.run(
                job.composed, job.request, job.words, job.folder, [slot], True, progress=progress
            )
            job.status = DONE
        except LauncherError as error:
            job.fail(FAILED, str(error))


def _kinds(jobs: dict[int, Job]) -> dict[int, Hashable]:
    """What jobs that can use the same ranks have in common."""
    from launcher.running.message import group_key

    return {number: group_key(job.request) for number, job in jobs.items() if job.request is not None}
