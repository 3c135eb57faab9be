"""A session: the runs and sweeps of one command line or one `Pool`, and the ranks that stay warm between them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from launcher import machines, slurm
from launcher.config import hydra_seam
from launcher.config.compose import Composer, translated
from launcher.config.paths import path_problems, user_path
from launcher.config.unsupported import unsupported
from launcher.machines import Machine
from launcher.problems import LauncherError, Problem, Refused, RunFailed
from launcher.records.record import read_record
from launcher.records.run_dir import RunDir
from launcher.request.inputs import drawn_seed
from launcher.request.request import Request
from launcher.rules import problems
from launcher.running.checked import checked, request_of, resolved
from launcher.running.hold import held
from launcher.running.places import Places, steps_of
from launcher.running.planning import jobs_of
from launcher.running.screen import SILENT, Screen
from launcher.running.standing import Written
from launcher.running.sweep import (
    Sweep,
    notes_on_memory,
    notes_on_prompts,
    notes_on_seed,
    recorded,
    resume,
)
from launcher.running.sweep_folder import check_earlier, claim, place, shown
from launcher.running.sweeping import SweepRun
from launcher.running.tracking import track
from launcher.wording import shorten

if TYPE_CHECKING:
    from launcher.running.job import Made
    from launcher.running.submission import Submitted


class Session:
    """Runs jobs on one group of ranks, which is kept while the next job fits it.

    Args:
        composer: what composes the words of each run.
        screen: where the session tells how it gets on.
        machine: this one, where it is known.
    """

    def __init__(self, composer: Composer, screen: Screen | None = None, machine: Machine | None = None) -> None:
        self.composer = composer
        self.screen = screen or SILENT
        self.machine = machine or machines.here()
        self._places = Places(self.screen, composer.options)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        self.close("" if error is None else str(error) or type(error).__name__)

    def close(self, failed: str = "") -> None:
        """End the ranks, and the agents of other machines; `failed` is what they are told of the reason."""
        self._places.close(failed)

    def resolve(self, words: list[str]) -> tuple[DictConfig, Request]:
        """The composed configuration of one run, and the request that it makes.

        Raises:
            Refused: the words can't be read. What a request's own rules refuse is not asked here.
        """
        self.composer.check_words(words, sweep=False)
        return resolved(self.composer, words, self.machine)

    def run(self, words: list[str]) -> Made:
        """Run one job, whose pictures are waited for.

        Raises:
            Refused: the request is illegal.
            RunFailed: a rank failed.
        """
        made = self.start(words, leave=False)
        assert made is not None
        return made

    def start(
        self,
        words: list[str],
        only_check: bool = False,
        leave: bool = True,
        asked: tuple[DictConfig, Request] | None = None,
    ) -> Made | None:
        """Run one job; with `only_check` its check and no more. None where it was handed to Slurm and goes on there.

        Args:
            leave: it may go on without this launcher.
            asked: what `checked` gives for these words, where that is known.

        Raises:
            Refused: the request is illegal.
            RunFailed: a rank failed.
        """
        if asked is None:
            self.composer.check_words(words, sweep=False)
            asked = checked(self.composer, words, self.machine)  # before there is a run directory
        composed, request = asked
        assert request.folder is not None
        folder = hydra_seam.put_into(composed, user_path(request.folder))
        if request.config.cluster.name == "slurm" and slurm.JOB not in os.environ:
            if not leave and not request.config.cluster.wait:
                raise Refused([Problem("cluster.wait=false", "what is drawn is waited for here", "leave it out")])
            return self._submit(composed, request, words, folder, only_check)
        self._places.make(request.groups)
        made = self._places.run(composed, request, words, folder, only_check=only_check)
        self._track([(request, made.folder)])
        return made

    def _submit(
        self, composed: DictConfig, request: Request, words: list[str], folder: Path, only_check: bool
    ) -> Made | None:
        """Hand a run to Slurm, and wait for it if that is asked for."""
        from launcher.running.first_record import first_record
        from launcher.running.job import Made
        from launcher.running.submission import held_job, submit
        from launcher.running.waiting import wait

        run_dir, config = RunDir(shown(folder)), request.config.cluster
        try:
            with held(folder, f"hydra.run.dir={run_dir.path}"), run_dir.claimed():
                job = submit(composed, request, words, folder, self.composer.options, only_check)
                first = first_record(request, recorded(words), self.composer.options)
                with held_job(job) as where:
                    run_dir.rewrite(first, status="queued", slurm=where)
        except OSError as error:
            raise RunFailed(f"the run's folder can't be written: {shorten(str(error), 200)}") from error
        self.screen.said(f"{'job':<10} {job} of Slurm, partition {where.partition}\n{'run':<10} {run_dir.path}")
        if not config.wait:
            return None
        return Made(run_dir.path, wait(job, run_dir.path, self.screen.said))

    def run_submitted(self, given: Submitted, folder: Path) -> None:
        """Run what was handed to Slurm, inside of its job: what was composed then, with what this node has.

        Raises:
            Refused: this node has not what the request needs.
            RunFailed: a rank failed.
        """
        composed, run_dir = given.composed, RunDir(folder)
        queued = read_record(run_dir.path_of_record)
        try:
            request = request_of(composed, given.words, self.machine)
            if found := problems(request):
                raise Refused(found)
        except LauncherError as error:
            run_dir.rewrite(queued, status="failed", error=str(error))
            raise
        self._places.make(request.groups)
        steps, check = steps_of(request), given.only_check
        seen = Written(run_dir, steps, self.screen.progress(steps, False))
        made = self._places.run(composed, request, given.words, folder, None, False, check, seen, claimed=True)
        self._track([(request, made.folder)])

    def sweep(self, words: list[str]) -> Sweep:
        """Run all legal jobs of a sweep; how each ended is in the result.

        Raises:
            Refused: the words can't be read, or the sweep's folder can't be used.
        """
        self.composer.check_words(words, sweep=True)
        master = self.composer.compose(words, sweep=True)
        if found := list(unsupported(master, sweep=True)):
            raise Refused(found)
        setting = "resume" if master.resume else "hydra.sweep.dir"
        with translated(words):
            text = hydra_seam.folder_name(master, setting)
            seed, allow_refused = master.seed, master.allow_refused
        if found := list(path_problems({setting: text})):
            raise Refused(found)
        folder = user_path(text)
        value = f"{setting}={shown(folder)}"
        earlier = check_earlier(master, folder, value) if master.resume else None
        if seed is None:  # one for all jobs, so that they can be compared
            master.seed = drawn_seed() if earlier is None else earlier
        jobs, groups = jobs_of(master, words, self.composer, self.machine)
        sweep = Sweep(jobs, allow_refused)
        for name in ("data", "objective"):
            if name in sweep.varied:
                value = f"{name}={','.join(sweep.varied[name])}"
                raise Refused([Problem(value, "is of a sweep as a whole", "type one of them")])
        place(sweep, folder)
        notes = notes_on_prompts(sweep, words)
        if all(job.problems for job in sweep.jobs):
            self.screen.opening(sweep, shown(folder), notes)
            self.screen.table(sweep, {})
            return sweep
        notes += notes_on_seed(sweep, master.seed) + notes_on_memory(sweep)
        try:
            with held(folder, value):
                if master.resume:
                    resume(sweep, shown(folder))
                else:
                    claim(master, sweep, folder, value)
                run = SweepRun(self._places, self.screen, self.composer.options, sweep)
                if run.run(master, shown(folder), notes, groups):
                    self._track([(job.request, job.made.folder) for job in sweep.jobs if job.request and job.made])
        except OSError as error:
            rule, instead = f"can't be written ({error.strerror})", "type output.dir=FOLDER"
            raise Refused([Problem(value, rule, instead)]) from error
        return sweep

    def _track(self, runs: list[tuple[Request, Path]]) -> None:
        """Tell trackers of runs that have ended; what goes wrong is said and changes nothing."""
        for said in track((request.config, folder) for request, folder in runs):
            self.screen.note(said)
