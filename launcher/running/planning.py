"""What was typed to requests: of one run, or of each job of a sweep, for so many groups of ranks at once (`data=`)."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter

from omegaconf import DictConfig

from launcher.config.compose import Composer, to_config, translated
from launcher.config.paths import PATHS, path_problems
from launcher.config.schema import LaunchConfig
from launcher.config.unsupported import unsupported
from launcher.estimates import groups as grouping
from launcher.estimates.ways import resolve
from launcher.machines import Machine
from launcher.nodes import from_environment
from launcher.problems import Problem, Refused
from launcher.request.request import Request
from launcher.rules import problems
from launcher.running.elsewhere import Partitions, anywhere, of_slurm
from launcher.running.sweep import REFUSED, Job
from launcher.running.which_model import with_model
from launcher.wording import plural


def request_of(composed: DictConfig, words: list[str], machine: Machine) -> Request:
    """The request of one run.

    Raises:
        Refused: its words can't be read, or so many groups can't be.
    """
    config = _paths_checked(_single(composed, words))
    _one_group(config.data, config.objective, config.cluster.name)
    return grouping.dealt(config, _of_all(config, machine, Partitions()))


def jobs_of(master: DictConfig, words: list[str], composer: Composer, machine: Machine) -> tuple[list[Job], int]:
    """The jobs of a sweep, resolved and checked, and how many groups are to run them at once.

    Raises:
        Refused: so many groups can't be.
    """
    asked = LaunchConfig()
    with translated(words):
        asked.data, asked.objective, asked.runtime.device = master.data, master.objective, master.runtime.device
        asked.runtime.devices = None if master.runtime.devices is None else list(master.runtime.devices)
    _one_group(master.data, str(master.objective), str(master.cluster.name))
    partitions = Partitions()
    groups = grouping.groups_of(asked, grouping.whole_machine(asked, machine))
    jobs = [Job(typed) for typed in composer.jobs(master, words)]
    if groups is not None and groups > len(jobs):
        instead = "leave it out" if len(jobs) == 1 else f"type data={len(jobs)} or less, or data=auto"
        rule = f"{groups} groups have {plural(len(jobs), 'job')} to share"
        raise Refused([Problem(f"data={groups}", rule, instead)])
    for number, job in enumerate(jobs):
        _plan(master, job, number, composer, machine, groups or 1, partitions)
    if partitions.silent is not None:  # told once, after all that is wrong with a job
        last = partitions.silent.problems
        raise Refused([*dict.fromkeys(one for job in jobs for one in job.problems if one not in last), *last])
    if groups is None:
        legal = [job.request for job in jobs if job.request is not None and not job.problems]
        groups = grouping.for_sweep(legal, asked, machine)
        for number, job in enumerate(jobs if groups > 1 else []):
            _plan(master, job, number, composer, machine, groups, partitions)
    return jobs, groups


def _plan(
    master: DictConfig, job: Job, number: int, composer: Composer, machine: Machine, groups: int, partitions: Partitions
) -> None:
    """Resolve a job for one of several groups, and check it."""
    job.problems, job.status, job.reason = [], "", ""
    try:
        if job.composed is None:
            job.composed = with_model(composer.job(master, job.words, number), composer)
        config = _paths_checked(to_config(job.composed))
        config.seed = master.seed if config.seed is None else config.seed
        machine = _of_all(config, machine, partitions)
        job.request = resolve(config, machine, groups)
        job.problems = problems(job.request)
        if job.problems and groups > 1 and not problems(resolve(config, machine)):  # it needs more of the machine
            job.problems = [grouping.too_much(job.request, job.problems[0])]
    except Refused as refused:
        job.problems = refused.problems
    if job.problems:
        job.fail(REFUSED, "; ".join(str(problem) for problem in job.problems))


def _one_group(data: str | None, objective: str, cluster: str) -> None:
    """Refuse several groups of ranks on several machines."""
    for value, several in (
        (f"data={data}", data not in (None, "1")),
        (f"objective={objective}", objective != "latency"),
    ):
        if several and cluster != "none":
            rule = f"the machines of cluster={cluster} work on one picture at a time"
            raise Refused([Problem(value, rule, "leave it out")])


def _of_all(config: LaunchConfig, machine: Machine, partitions: Partitions) -> Machine:
    """This machine, as many times as there are of it in a cluster.

    Raises:
        Refused: they can't be known; what is wrong with the request on any machine comes first.
    """
    try:
        if config.cluster.name == "slurm":
            return of_slurm(config, machine, partitions)
        if config.cluster.name == "env":
            return replace(machine, nodes=from_environment(config.cluster.port).count)
    except Refused as refused:
        raise Refused([*anywhere(config), *refused.problems]) from refused
    return machine


def _paths_checked(config: LaunchConfig) -> LaunchConfig:
    """The configuration, whose paths can be names of files."""
    if found := list(path_problems({name: attrgetter(name)(config) for name in PATHS})):
        raise Refused(found)
    return config


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
    if left := [name for name in composed.hydra.sweeper.params or () if name not in typed]:
        names, chosen = ", ".join(left), composed.hydra.runtime.choices.get("experiment")
        value = f"experiment={chosen}" if chosen else "hydra.sweeper.params"
        raise Refused([Problem(value, f"is a sweep over {names}", "type -m to run it")])
    return to_config(composed)
