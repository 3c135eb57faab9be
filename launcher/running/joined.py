"""The machines that `cluster=` means, once all of them are there."""

from __future__ import annotations

from collections.abc import Callable

from launcher.config.schema import ClusterConfig
from launcher.nodes import from_environment, in_allocation
from launcher.running.cluster import Cluster
from launcher.running.summoned import Summoned, first_of


def joined(config: ClusterConfig, note: Callable[[str], None]) -> Cluster | None:
    """The machines whose ranks work together; None for this one alone.

    Args:
        note: is told what differs between them and changes nothing.

    Raises:
        Refused: they can't be known, or differ in what makes pictures.
        RunFailed: they did not come in time.
    """
    timeout = config.join_timeout
    if config.name == "env":
        node = from_environment(config.port)
        return Cluster(node, timeout, note) if node.count > 1 else None
    node, others = first_of(config, in_allocation())
    if not others:
        return None
    return Cluster(node, timeout, note, lambda first: Summoned(others, first, config.srun_args or (), timeout))
