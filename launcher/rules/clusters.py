"""Several machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from launcher.config.schema import ClusterConfig
from launcher.problems import Problem
from launcher.request.request import Request
from launcher.rules.rule import rule, typed

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
