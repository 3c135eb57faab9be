"""A session: the runs and sweeps of one command line or one `Pool`, and the ranks that stay warm between them."""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
from collections.abc import Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from launcher import machines
from launcher.config import hydra_seam
from launcher.config.compose import Composer, to_config, translated
from launcher.config.paths import PATHS, path_problems, user_path
from launcher.config.schema import LaunchConfig
from launcher.config.unsupported import unsupported
from launcher.estimates.ways import resolve
from launcher.problems import Interrupted, LauncherError, Problem, Refused, RunFailed
from launcher.records.run_dir import RunDir
from launcher.request.inputs import drawn_seed
from launcher.request.request import Request
from launcher.rules import problems
from launcher.running import deal, results
from launcher.running.hold import held
from launcher.running.progress import Progress
from launcher.running.screen import SILENT, Screen
from launcher.running.slot import Slot
from launcher.running.sweep import DONE, FAILED, REFUSED, Job, Sweep, notes_on_prompts, notes_on_seed, recorded, resume
from launcher.running.sweep_folder import check_earlier, claim, place, shown
from launcher.running.tracking import track
from launcher.running.which_model import with_model
from launcher.wording import shorten

if TYPE_CHECKING:
    from launcher.running.cluster import Cluster
    from launcher.running.job import Made


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
        request = self._request(_single(composed, words))
        with translated(words):
            return composed, replace(request, folder=hydra_seam.folder_name(composed, "hydra.run.dir"))

    def _request(self, config: LaunchConfig, groups: int = 1) -> Request:
        """The request that a configuration makes for one of several groups."""
        given = {name: attrgetter(name)(config) for name in PATHS}
        if found := list(path_problems(given)):
            raise Refused(found)
        machine = self.machine
        if config.cluster.name == "env":
            from launcher.nodes import from_environment

            machine = replace(machine, nodes=from_environment(config.cluster.port).count)
        return resolve(deal.chosen(config, machine, groups), deal.part(machine, groups))

    def _joined(self, config: LaunchConfig) -> Cluster | None:
        """The machines whose ranks work together, once all of them are there; None for this one alone."""
        if config.cluster.name != "env":
            return None
        if self._cluster is None:
            from launcher.nodes import from_environment
            from launcher.running.cluster import Cluster

            node = from_environment(config.cluster.port)
            if node.count > 1:
                self._cluster = Cluster(node, config.cluster.join_timeout, self.screen.note)
        return self._cluster

    def run(self, words: list[str], only_check: bool = False) -> Made:
        """Run one job; with `only_check` its check and no more.

        Raises:
            Refused: the request is illegal.
            RunFailed: a rank failed.
        """
        composed, request = self.resolve(words)
        if found := problems(request):  # before there is a run directory
            raise Refused(found, self._works_here(words))
        assert request.folder is not None
        folder = hydra_seam.put_into(composed, user_path(request.folder))
        made = self._job(composed, request, words, folder, self._slots[0], only_check=only_check)
        self._track([(request, made.folder)])
        return made

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
        if master.data != "1" and master.cluster.name != "none":
            rule = f"the machines of cluster={master.cluster.name} work on one job at a time"
            raise Refused([Problem(f"data={master.data}", rule, "leave it out")])
        if found := list(path_problems({setting: text})):
            raise Refused(found)
        folder = user_path(text)
        value = f"{setting}={shown(folder)}"
        earlier = check_earlier(master, folder, value) if master.resume else None
        if seed is None:  # one for all jobs, so that they can be compared
            master.seed = drawn_seed() if earlier is None else earlier
        here = replace(self.machine, gpus=()) if master.runtime.device == "cpu" else self.machine
        groups = deal.groups_of(master.data, here)
        listed = list(enumerate(self.composer.jobs(master, words)))
        jobs = [self._plan(master, job, number, groups or 1) for number, job in listed]
        if groups is None:
            legal = [job.request for job in jobs if job.request is not None and not job.problems]
            groups = deal.fitting(legal, here)
            jobs = [self._plan(master, job, number, groups) for number, job in listed] if groups > 1 else jobs
        sweep = Sweep(jobs, allow_refused)
        if "data" in sweep.varied:
            value = f"data={','.join(sweep.varied['data'])}"
            raise Refused([Problem(value, "is of a sweep as a whole", "type one of them")])
        place(sweep, folder)
        notes = notes_on_prompts(sweep, words)
        if all(job.problems for job in sweep.jobs):
            self.screen.opening(sweep, shown(folder), notes)
            self.screen.table(sweep)
            return sweep
        notes += notes_on_seed(sweep, master.seed)
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
        if len(self._slots) != groups:
            self.close()
            self._slots = [Slot(number, groups) for number in range(groups)]
        left = {} if stop else {number: job for number, job in enumerate(sweep.jobs) if not job.status}
        try:
            if groups > 1:
                self._at_once(master, sweep, left, groups)
            else:
                for number, job in left.items():
                    self._run(job, self._slots[0])
                    self.screen.job(sweep, number)
                    if master.fail_fast and job.status == FAILED:
                        break
        except (Interrupted, KeyboardInterrupt):
            self.screen.unfinished(folder)
            raise
        self.screen.table(sweep)
        results.contact_sheet(sweep, folder, self.screen)
        results.report(sweep, folder, self.screen)
        self._track([(job.request, job.made.folder) for job in sweep.jobs if job.request and job.made])

    def _at_once(self, master: DictConfig, sweep: Sweep, left: dict[int, Job], groups: int) -> None:
        """Run jobs on several groups of ranks at once."""
        from launcher.running.message import group_key

        environments = {str(dict(job.composed.hydra.job.env_set)) for job in left.values() if job.composed is not None}
        if len(environments) > 1:  # of the whole process, so of all groups
            raise Refused([Problem(f"data={groups}", "hydra.job.env_set differs between its jobs", "type data=1")])
        stopped = threading.Event()
        steps = sum(steps_of(job.request) for job in left.values() if job.request is not None)
        progress = self.screen.progress(steps, True)
        shared = deal.Shared(progress, stopped)

        def run(number: int, group: int) -> None:
            job = left[number]
            assert job.request is not None
            listed = to_config(job.composed).runtime.devices if job.composed is not None else None
            job.request = deal.placed(job.request, self.machine, listed, group, groups)
            self._run(job, self._slots[group], shared)

        def ended(number: int) -> bool:
            with shared.cleared():
                self.screen.job(sweep, number)
            return bool(master.fail_fast and left[number].status == FAILED)

        keys = {number: group_key(job.request) for number, job in left.items() if job.request is not None}
        try:
            deal.deal(keys, groups, run, ended, stopped)
        finally:
            progress.close()

    def _plan(self, master: DictConfig, words: list[str], number: int, groups: int = 1) -> Job:
        """One job of a sweep, resolved for one of several groups, and checked."""
        job = Job(words)
        try:
            job.composed = with_model(self.composer.job(master, words, number), self.composer)
            config = to_config(job.composed)
            config.seed = master.seed if config.seed is None else config.seed
            job.request = self._request(config, groups)
            job.problems = problems(job.request)
            if job.problems and groups > 1 and not problems(self._request(config)):  # it needs more of the machine
                rule = f"{job.problems[0].value} is too much for one of {groups} groups: {job.problems[0].rule}"
                job.problems = [Problem(f"data={groups}", rule, "type a smaller number, or data=auto")]
        except Refused as refused:
            job.problems = refused.problems
        if job.problems:
            job.fail(REFUSED, "; ".join(str(problem) for problem in job.problems))
        return job

    def _run(self, job: Job, slot: Slot, progress: Progress | None = None) -> None:
        """Run one job of a sweep; a failure is noted in it."""
        assert job.composed is not None
        assert job.request is not None
        assert job.folder is not None
        try:
            job.made = self._job(job.composed, job.request, job.words, job.folder, slot, True, progress=progress)
            job.status = DONE
        except LauncherError as error:
            job.fail(FAILED, str(error))

    def _job(
        self,
        composed: DictConfig,
        request: Request,
        words: list[str],
        folder: Path,
        slot: Slot,
        brief: bool = False,
        only_check: bool = False,
        progress: Progress | None = None,
    ) -> Made:
        """Make a job's pictures in a folder, which is claimed before anything is written there."""
        from launcher.running.job import execute  # with what a refused request should not wait for: Pillow, psutil

        slot.cluster = self._joined(request.config)
        run_dir = RunDir(shown(folder))
        progress = progress or self.screen.progress(steps_of(request), brief)
        try:
            with held(folder, f"hydra.run.dir={run_dir.path}"), run_dir.claimed():
                hydra_seam.save(composed, folder)
                with _environment(composed) as environment:
                    if not brief:
                        self.screen.header(request, run_dir.path)
                    slot.fit(environment)
                    options = self.composer.options
                    made = execute(request, run_dir, recorded(words), slot.ranks, progress, only_check, options)
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
    """Denoising steps of all pictures of a job."""
    return request.denoising_steps * len(request.prompts) * request.config.images


def _single(composed: DictConfig, words: list[str]) -> LaunchConfig:
    """The configuration of one run; what only a sweep takes is refused.

    An experiment that is a sweep is one run where the words give each setting that it varies, as a job's record does.
    """
    typed = {word.partition("=")[0].lstrip("+") for word in words}
    if found := list(unsupported(composed, sweep=False)):
        raise Refused(found)
    for word in ("resume", "fail_fast", "allow_refused"):
        if word in typed and composed[word]:
            raise Refused([Problem(f"{word}={composed[word]}", "works on sweeps only", "type -m, or leave it out")])
    if composed.data != "1" and "data" in typed:
        raise Refused([Problem(f"data={composed.data}", "works on sweeps only", "type -m, or leave it out")])
    if left := [name for name in composed.hydra.sweeper.params or () if name not in typed]:
        names, chosen = ", ".join(left), composed.hydra.runtime.choices.get("experiment")
        value = f"experiment={chosen}" if chosen else "hydra.sweeper.params"
        raise Refused([Problem(value, f"is a sweep over {names}", "type -m to run it")])
    return to_config(composed)


@contextlib.contextmanager
def _environment(composed: DictConfig) -> Iterator[dict[str, str]]:
    """Set the variables of hydra.job.env_set around a job, for the whole process, as Hydra does."""
    wanted = {str(key): str(value) for key, value in composed.hydra.job.env_set.items()}
    before = {key: os.environ.get(key) for key in wanted}
    os.environ.update(wanted)
    try:
        yield wanted
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
