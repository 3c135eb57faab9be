"""What was typed for one run to the request that it makes, checked: all that a plan and a refusal need."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import replace
from operator import attrgetter

from omegaconf import DictConfig

from launcher.config import hydra_seam
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
from launcher.running.which_model import with_model


def resolved(composer: Composer, words: list[str], machine: Machine) -> tuple[DictConfig, Request]:
    """The composed configuration of one run whose words were checked (`check_words`), and the request that it makes.

    Raises:
        Refused: the words can't be composed. What a request's own rules refuse is not asked here.
    """
    composed = with_model(composer.compose(words), composer)
    request = request_of(composed, words, machine)
    with translated(words):
        return composed, replace(request, folder=hydra_seam.folder_name(composed, "hydra.run.dir"))


def checked(composer: Composer, words: list[str], machine: Machine) -> tuple[DictConfig, Request]:
    """The same of a run that is legal.

    Raises:
        Refused: the request is illegal.
    """
    composed, request = resolved(composer, words, machine)
    if found := problems(request):
        raise Refused(found, _works_here(composer, words, machine))
    return composed, request


def request_of(composed: DictConfig, words: list[str], machine: Machine) -> Request:
    """The request of one run.

    Raises:
        Refused: its words can't be read, or so many groups can't be.
    """
    config = paths_checked(_single(composed, words))
    one_group(config.data, config.objective, config.cluster.name)
    return grouping.dealt(config, of_all(config, machine, Partitions()))


def one_group(data: str | None, objective: str, cluster: str) -> None:
    """Refuse several groups of ranks on several machines."""
    for value, several in (
        (f"data={data}", data not in (None, "1")),
        (f"objective={objective}", objective != "latency"),
    ):
        if several and cluster != "none":
            rule = f"the machines of cluster={cluster} work on one picture at a time"
            raise Refused([Problem(value, rule, "leave it out")])


def of_all(config: LaunchConfig, machine: Machine, partitions: Partitions) -> Machine:
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


def paths_checked(config: LaunchConfig) -> LaunchConfig:
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


def _works_here(composer: Composer, words: list[str], machine: Machine) -> str | None:
    """The same line for the bundled model, if that one is legal on this machine."""
    others = [word for word in words if not word.startswith("model")]
    if others == words:  # that was the bundled model
        return None
    words = ["model=flux_tiny", *others]
    with contextlib.suppress(Refused):
        if not problems(resolve(to_config(composer.compose(words)), machine)):
            return shlex.join(["python", "-m", "launcher", *composer.options, *words])
    return None
