"""A session: the runs and sweeps of one command line or one `Pool`, and the ranks that stay warm between them."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from launcher import machines, slurm
from launcher.config import hydra_seam
from launcher.config.compose import Composer, to_config, translated
from launcher.config.paths import path_problems, user_path
from launcher.config.schema import LaunchConfig
from launcher.config.unsupported import unsupported
from launcher.estimates.ways import resolve
from launcher.problems import Interrupted, LauncherError, Problem, Refused, RunFailed
from launcher.records.record import read_record
from launcher.records.run_dir import RunDir
from launcher.request.inputs import drawn_seed
from launcher.request.request import Request
from launcher.rules import problems
from launcher.running import deal, results
from launcher.running.hold import held
from launcher.running.planning import jobs_of, request_of
from launcher.running.progress import Progress
from launcher.running.screen import SILENT, Screen
from launcher.running.slot import Slot
from launcher.running.standing import Written
from launcher.running.sweep import (
    DONE,
    FAILED,
    QUEUED,
    Job,
    Sweep,
    notes_on_memory,
    notes_on_prompts,
    notes_on_seed,
    recorded,
    resume,
)
from launcher.running.sweep_folder import check_earlier, claim, place, shown
from launcher.running.tracking import track
from launcher.running.which_model import with_model
from launcher.wording import shorten

if TYPE_CHECKING:
    from launcher.running.cluster import Cluster
    from launcher.running.job import Made
    from launcher.running.submission import Submitted


class Session:
    """Runs jobs on one group of ranks, which is kept while the next job fits it.

    Args:
        composer: what composes the words of each run.
        screen: where the session tells how it gets on.
    """

    def __init__(self, composer: Composer, screen: Screen | None = None) -> None:
        self.composer = composer
        self.screen = screen or SILENT
        self.machine = machines.here()
        self._slots = [Slot()]
        self._cluster: Cluster | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        self.close("" if error is None else str(error) or type(error).__name__)

    def close(self, failed: str = "") -> None:
        """End the ranks, and the agents of other machines; `failed` is what they are told of the reason."""
        for slot in self._slots:
            slot.close()
        if self._cluster is not None:
            self._cluster.close(1 if failed else 0, failed)
            self._cluster = None

    def resolve(self, words: list[str]) -> tuple[DictConfig, Request]:
        """The composed configuration of one run, and the request that it makes.

        Raises:
            Refused: the words can't be read. What a request's own rules refuse is not asked here.
        """
        self.composer.check_words(words, sweep=False)
        composed = with_model(self.composer.compose(words), self.composer)
        request = request_of(composed, words, self.machine)
        with translated(words):
            return composed, replace(request, folder=hydra_seam.folder_name(composed, "hydra.run.dir"))

    def _joined(self, config: LaunchConfig) -> Cluster | None:
        """The machines whose ranks work together, once all of them are there; None for this one alone."""
        if config.cluster.name == "none" or self._cluster is not None:
            return self._cluster
        from launcher.running.joined import joined

        self._cluster = joined(config.cluster, self.screen.note)
        return self._cluster

    def run(self, words: list[str]) -> Made:
        """Run one job, whose pictures are waited for.

        Raises:
            Refused: the request is illegal.
            RunFailed: a rank failed.
        """
        made = self.start(words, leave=False)
        assert made is not None
        return made

    def start(self, words: list[str], only_check: bool = False, leave: bool = True) -> Made | None:
        """Run one job; with `only_check` its check and no more. None where it was handed to Slurm and goes on there.

        Args:
            leave: it may go on without this launcher.

        Raises:
            Refused: the request is illegal.
            RunFailed: a rank failed.
        """
        composed, request = self.resolve(words)
        if found := problems(request):  # before there is a run directory
            raise Refused(found, self._works_here(words))
        assert request.folder is not None
        folder = hydra_seam.put_into(composed, user_path(request.folder))
        if request.config.cluster.name == "slurm" and slurm.JOB not in os.environ:
            if not leave and not request.config.cluster.wait:
                raise Refused([Problem("cluster.wait=false", "what is drawn is waited for here", "leave it out")])
            return self._submit(composed, request, words, folder, only_check)
        self._make_places(request.groups)
        made = self._job(composed, request, words, folder, self._slots, only_check=only_check)
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
        self._make_places(request.groups)
        steps, check = steps_of(request), given.only_check
        seen = Written(run_dir, steps, self.screen.progress(steps, False))
        made = self._job(composed, request, given.words, folder, self._slots, False, check, seen, claimed=True)
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
            self.screen.table(sweep)
            return sweep
        notes += notes_on_seed(sweep, master.seed) + notes_on_memory(sweep)
        try:
            with held(folder, value):
                if master.resume:
                    resume(sweep, shown(folder))
                else:
                    claim(master, sweep, folder, value)
                self._all(master, sweep, shown(folder), notes, groups)
        except OSError as error:
            rule, instead = f"can't be written ({error.strerror})", "type output.dir=FOLDER"
            raise Refused([Problem(value, rule, instead)]) from error
        return sweep

    def _all(self, master: DictConfig, sweep: Sweep, folder: Path, notes: list[str], groups: int) -> None:
        """Run the jobs of a sweep that are neither refused nor done."""
        self.screen.opening(sweep, folder, notes)
        stop = master.fail_fast and not sweep.allow_refused and any(job.problems for job in sweep.jobs)
        self._make_places(groups)
        left = {} if stop else {number: job for number, job in enumerate(sweep.jobs) if not job.status}
        try:
            if left and str(master.cluster.name) == "slurm" and slurm.JOB not in os.environ:
                if not self._in_array(master, sweep, left, folder):
                    return
            elif groups > 1:
                self._at_once(master, sweep, left, groups)
            else:
                for number in deal.in_order(_kinds(left)):
                    job = left[number]
                    self._run(job, self._slots[0])
                    self.screen.job(sweep, number)
                    if master.fail_fast and job.status == FAILED:
                        break
        except (Interrupted, KeyboardInterrupt):
            self.screen.unfinished(folder)
            raise
        self.screen.table(sweep)
        if master.cluster.name != "none" and any(
            job.status == FAILED for job in sweep.jobs
        ):  # a machine is gone, perhaps
            self.screen.unfinished(folder)
        results.contact_sheet(sweep, folder, self.screen)
        results.report(sweep, folder, self.screen)
        self._track([(job.request, job.made.folder) for job in sweep.jobs if job.request and job.made])

    def _in_array(self, master: DictConfig, sweep: Sweep, left: dict[int, Job], folder: Path) -> bool:
        """Have Slurm run jobs; false where they are not waited for."""
        from launcher.running.array import Array

        array = Array(sweep, _kinds(left), folder, self.composer.options)
        self.screen.said(f"{'job':<10} {array}")
        if not master.cluster.wait:
            for job in left.values():
                job.status = QUEUED
            return False

        def told(number: int) -> bool:
            self.screen.job(sweep, number)
            return bool(master.fail_fast and left[number].status == FAILED)

        lines = self.screen.lines(sweep)
        try:
            array.wait(told, lines.show, self.screen.note)
        finally:
            lines.close()
        return True

    def _at_once(self, master: DictConfig, sweep: Sweep, left: dict[int, Job], groups: int) -> None:
        """Run jobs on several groups of ranks at once."""
        environments = {str(dict(job.composed.hydra.job.env_set)) for job in left.values() if job.composed is not None}
        if len(environments) > 1:  # ranks keep what they were started with, and a job may go to any group
            raise Refused([Problem(f"data={groups}", "hydra.job.env_set differs between its jobs", "type data=1")])
        steps = sum(steps_of(job.request) for job in left.values() if job.request is not None)
        shared = deal.Shared(self.screen.board(steps))

        def run(number: int, group: int) -> None:
            job = left[number]
            assert job.request is not None
            job.request = deal.placed(job.request, group)
            what = f"[{number + 1}/{len(sweep.jobs)}] {sweep.varying(job)}".rstrip()
            self._run(job, self._slots[group], shared.job(group, what, steps_of(job.request)))

        def ended(number: int) -> bool:
            with shared.cleared():
                self.screen.job(sweep, number)
            return bool(master.fail_fast and left[number].status == FAILED)

        try:
            deal.deal(_kinds(left), groups, run, ended, shared.stopped)
        finally:
            shared.close()

    def _make_places(self, groups: int) -> None:
        """Have a place for the ranks of each group; ranks of another arrangement end."""
        if len(self._slots) != groups:
            self.close()
            self._slots = [Slot(number, groups) for number in range(groups)]

    def _run(self, job: Job, slot: Slot, progress: Progress | None = None) -> None:
        """Run one job of a sweep; a failure is noted in it."""
        assert job.composed is not None
        assert job.request is not None
        assert job.folder is not None
        try:
            job.made = self._job(job.composed, job.request, job.words, job.folder, [slot], True, progress=progress)
            job.status = DONE
        except LauncherError as error:
            job.fail(FAILED, str(error))

    def _job(
        self,
        composed: DictConfig,
        request: Request,
        words: list[str],
        folder: Path,
        slots: list[Slot],
        brief: bool = False,
        only_check: bool = False,
        progress: Progress | None = None,
        claimed: bool = False,
    ) -> Made:
        """Make a job's pictures in a folder, which is claimed before anything is written there.

        Args:
            claimed: whoever handed the run to Slurm has claimed it.
            slots: for the ranks of the groups that make them.
            progress: of a sweep's job, where several are made at once.
        """
        # With what a refused request should not wait for: Pillow, psutil.
        from launcher.running.job import Crew, execute

        slots[0].cluster = self._joined(request.config)
        run_dir, shared = RunDir(shown(folder)), None
        try:
            with held(folder, f"hydra.run.dir={run_dir.path}"), contextlib.ExitStack() as stack:
                if not claimed:
                    stack.enter_context(run_dir.claimed())
                hydra_seam.save(composed, folder)
                environment = {str(key): str(value) for key, value in composed.hydra.job.env_set.items()}
                if not brief:
                    self.screen.header(request, run_dir.path)
                if len(slots) > 1:
                    shared = deal.Shared(self.screen.board(steps_of(request)))
                    stack.callback(shared.close)
                crews = []
                for group, slot in enumerate(slots):
                    slot.fit(environment)
                    if shared is not None:
                        own = len(request.share(group, len(slots))) * request.denoising_steps
                        progress = shared.job(group, "", own)
                    progress = progress or self.screen.progress(steps_of(request), brief)
                    crews.append(Crew(deal.placed(request, group) if shared else request, slot.ranks, progress))
                stopped = None if shared is None else shared.stopped
                made = execute(crews, run_dir, recorded(words), only_check, self.composer.options, stopped)
        except OSError as error:
            raise RunFailed(f"the run's folder can't be written: {shorten(str(error), 200)}") from error
        if not brief:
            self.screen.summary(made)
        return made

    def _track(self, runs: list[tuple[Request, Path]]) -> None:
        """Tell trackers of runs that have ended; what goes wrong is said and changes nothing."""
        for said in track((request.config, folder) for request, folder in runs):
            self.screen.note(said)

    def _works_here(self, words: list[str]) -> str | None:
        """The same line for the bundled model, if that one is legal on this machine."""
        others = [word for word in words if not word.startswith("model")]
        if others == words:  # that was the bundled model
            return None
        words = ["model=flux_tiny", *others]
        with contextlib.suppress(Refused):
            if not problems(resolve(to_config(self.composer.compose(words)), self.machine)):
                return shlex.join(["python", "-m", "launcher", *self.composer.options, *words])
        return None


def steps_of(request: Request) -> int:
    """Denoising steps of all calls of a job."""
    return request.denoising_steps * len(request.calls)


def _kinds(jobs: dict[int, Job]) -> dict[int, Hashable]:
    """What jobs that can use the same ranks have in common."""
    from launcher.running.message import group_key

    return {number: group_key(job.request) for number, job in jobs.items() if job.request is not None}
