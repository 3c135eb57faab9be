"""What was typed for a sweep to the request of each job, for so many groups of ranks at once (`data=`)."""

from __future__ import annotations

from omegaconf import DictConfig

from launcher.config.compose import Composer, to_config, translated
from launcher.config.schema import LaunchConfig
from launcher.estimates import groups as grouping
from launcher.estimates.ways import resolve
from launcher.machines import Machine
from launcher.problems import Problem, Refused
from launcher.rules import problems
from launcher.running.checked import of_all, one_group, paths_checked
from launcher.running.elsewhere import Partitions
from launcher.running.sweep import REFUSED, Job
from launcher.running.which_model import with_model
from launcher.wording import plural


def jobs_of(master: DictConfig, words: list[str], composer: Composer, machine: Machine) -> tuple[list[Job], int]:
    """The jobs of a sweep, resolved and checked, and how many groups are to run them at once.

    Raises:
        Refused: so many groups can't be.
    """
    asked = LaunchConfig()
    with translated(words):
        asked.data, asked.objective, asked.runtime.device = master.data, master.objective, master.runtime.device
        asked.runtime.devices = None if master.runtime.devices is None else list(master.runtime.devices)
    one_group(master.data, str(master.objective), str(master.cluster.name))
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
        config = paths_checked(to_config(job.composed))
        config.seed = master.seed if config.seed is None else config.seed
        machine = of_all(config, machine, partitions)
        job.request = resolve(config, machine, groups)
        job.problems = problems(job.request)
        if job.problems and groups > 1 and not problems(resolve(config, machine)):  # it needs more of the machine
            job.problems = [grouping.too_much(job.request, job.problems[0])]
    except Refused as refused:
        job.problems = refused.problems
    if job.problems:
        job.fail(REFUSED, "; ".join(str(problem) for problem in job.problems))
