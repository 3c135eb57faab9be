"""Several machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from launcher.config.schema import ClusterConfig
from launcher.problems import Problem
from launcher.request.request import Request
from launcher.rules.rule import rule, typed
from launcher.wording import plural

OF_ALL = ("name", "port", "join_timeout")


@rule
def of_slurm(request: Request) -> Iterator[Problem]:
    """What is asked of Slurm is asked with cluster=slurm."""
    config, usual = request.config.cluster, ClusterConfig()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if config.name != "slurm" and field.name not in OF_ALL and value != getattr(usual, field.name):
            rule_ = f"works with cluster=slurm only, and this is cluster={config.name}"
            yield Problem(typed(f"cluster.{field.name}", value), rule_, "type cluster=slurm, or leave it out")


@rule
def tasks(request: Request) -> Iterator[Problem]:
    """Each node has as many ranks as were asked for."""
    each, nodes, ranks = request.config.cluster.tasks_per_node, request.machine.nodes, request.mesh.ranks
    if request.config.cluster.name == "slurm" and each is not None and each > 0 and ranks != each * nodes:
        rule_ = f"{plural(nodes, 'node')} would have {plural(each * nodes, 'rank')}, and this run has {ranks}"
        right = f"type cluster.tasks_per_node={ranks // nodes}, or leave it out"
        yield Problem(f"cluster.tasks_per_node={each}", rule_, right if ranks % nodes == 0 else "leave it out")
