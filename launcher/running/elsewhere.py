"""The machines of a Slurm cluster, as far as they are known: those of the allocation, or those that a job asks for."""

from __future__ import annotations

import copy
import os
from dataclasses import replace

from launcher import slurm
from launcher.config.schema import LaunchConfig
from launcher.estimates.ways import resolve
from launcher.gpus import Gpu
from launcher.machines import MAX_DEVICES, Machine, presets
from launcher.nodes import in_allocation
from launcher.problems import Problem, Refused
from launcher.rules import problems
from launcher.running import submission
from launcher.slurm import Partition
from launcher.wording import plural

MOST = float(1 << 20)  # GiB: memory that nothing lacks


class Partitions:
    """What Slurm has said of its partitions, or that it can't be asked: once for all jobs of a sweep."""

    def __init__(self) -> None:
        self._known: dict[str | None, Partition] = {}
        self.silent: slurm.Silent | None = None

    def of(self, name: str | None) -> Partition:
        """A partition by its name; None: the cluster's own choice.

        Raises:
            Refused: there is none of this name, nothing can be submitted from here, or Slurm can't be asked.
        """
        if self.silent is not None:
            raise self.silent
        try:
            if name not in self._known:
                submission.needed()
                self._known[name] = slurm.partition(name)
        except slurm.Silent as error:
            self.silent = error
            raise
        return self._known[name]


def of_slurm(config: LaunchConfig, machine: Machine, partitions: Partitions) -> Machine:
    """The machine that a request with `cluster=slurm` is for; `tasks_per_node` counts its ranks.

    Args:
        machine: this one.

    Raises:
        Refused: it can't be known, or there are not so many.
    """
    found = _nodes(config, machine, partitions)
    if config.cluster.tasks_per_node is not None and config.runtime.processes is None:
        config.runtime.processes = found.nodes * config.cluster.tasks_per_node
    return found


def _nodes(config: LaunchConfig, machine: Machine, partitions: Partitions) -> Machine:
    cluster = config.cluster
    if slurm.JOB in os.environ:
        if slurm.SUBMITTED not in os.environ and (asked := submission.asked_of_slurm(cluster)):
            rule = f"this is inside of job {os.environ[slurm.JOB]}, whose nodes and limits are settled"
            raise Refused(Problem(f"cluster.{name}", rule, "leave it out") for name in asked)
        return replace(machine, nodes=len(in_allocation().part(cluster.nodes)))
    count = cluster.nodes or 1
    if config.machine.name != "here":  # planned for another one
        return replace(machine, nodes=count)
    there = partitions.of(cluster.partition)
    if count > there.nodes:
        rule = f"partition {there.name} has {plural(there.nodes, 'node')}"
        raise Refused([Problem(f"cluster.nodes={count}", rule, f"type cluster.nodes={there.nodes} or less")])
    card = there.card or "a GPU"
    preset = next((each for each in presets().values() if card.lower() in str(each.get("card", "")).lower()), {})
    mib = round(1024 * float(preset.get("memory_gib", 0)))
    cards = tuple(Gpu(index, str(preset.get("card", card)), mib) for index in range(max(0, cluster.gpus_per_node or 0)))
    note, memory = f", as Slurm says of partition {there.name}", there.memory_gib
    return Machine(there.cores, cards, note, memory_gib=memory, free_gib=memory, nodes=count)


def anywhere(config: LaunchConfig) -> list[Problem]:
    """What is wrong with a request on whatever machines: on one core of theirs, and on as many as there can be."""
    nodes = max(1, config.cluster.nodes or 1)
    cards = tuple(Gpu(index, "", 1 << 20) for index in range(max(0, config.cluster.gpus_per_node or 0)))
    found = []
    for cores in (1, MAX_DEVICES):
        asked = copy.deepcopy(config)
        if asked.cluster.tasks_per_node is not None and asked.runtime.processes is None:
            asked.runtime.processes = nodes * asked.cluster.tasks_per_node
        try:
            found.append(problems(resolve(asked, Machine(cores, cards, "", MOST, MOST, nodes=nodes))))
        except Refused as refused:
            found.append(refused.problems)
    return [problem for problem in found[0] if problem in found[1]]
