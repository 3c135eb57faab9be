"""The machines of a Slurm cluster, as far as they are known: those of the allocation, or those that a job asks for."""

from __future__ import annotations

import os
from dataclasses import replace

from launcher import slurm
from launcher.config.schema import LaunchConfig
from launcher.gpus import Gpu
from launcher.machines import Machine, presets
from launcher.nodes import in_allocation
from launcher.problems import Problem, Refused
from launcher.running import submission
from launcher.wording import plural


def of_slurm(config: LaunchConfig, machine: Machine) -> Machine:
    """The machine that a request with `cluster=slurm` is for; `tasks_per_node` counts its ranks.

    Args:
        machine: this one.

    Raises:
        Refused: it can't be known, or there are not so many.
    """
    found = _nodes(config, machine)
    if config.cluster.tasks_per_node is not None and config.runtime.processes is None:
        config.runtime.processes = found.nodes * config.cluster.tasks_per_node
    return found


def _nodes(config: LaunchConfig, machine: Machine) -> Machine:
    cluster = config.cluster
    if slurm.JOB in os.environ:
        if slurm.SUBMITTED not in os.environ and (asked := submission.asked_of_slurm(cluster)):
            rule = f"this is inside of job {os.environ[slurm.JOB]}, whose nodes and limits are settled"
            raise Refused(Problem(f"cluster.{name}", rule, "leave it out") for name in asked)
        return replace(machine, nodes=len(in_allocation().part(cluster.nodes)))
    count = cluster.nodes or 1
    if config.machine.name != "here":  # planned for another one
        return replace(machine, nodes=count)
    submission.needed()
    there = slurm.partition(cluster.partition)
    if count > there.nodes:
        rule = f"partition {there.name} has {plural(there.nodes, 'node')}"
        raise Refused([Problem(f"cluster.nodes={count}", rule, f"type cluster.nodes={there.nodes} or less")])
    card = there.card or "a GPU"
    preset = next((each for each in presets().values() if card.lower() in str(each.get("card", "")).lower()), {})
    mib = round(1024 * float(preset.get("memory_gib", 0)))
    cards = tuple(Gpu(index, str(preset.get("card", card)), mib) for index in range(max(0, cluster.gpus_per_node or 0)))
    note, memory = f", as Slurm says of partition {there.name}", there.memory_gib
    return Machine(there.cores, cards, note, memory_gib=memory, free_gib=memory, nodes=count)
