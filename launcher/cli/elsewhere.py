"""A command line that was started on several machines: on all but the first it only serves the first one."""

from __future__ import annotations

import os

from launcher.config.compose import Composer
from launcher.wire.channel import CLUSTER_SECRET_VARIABLE


def served(composer: Composer, words: list[str], sweep: bool = False) -> int | None:
    """Serve the first machine, and return the exit code that it gives; None if this is the first, or the only one."""
    if CLUSTER_SECRET_VARIABLE not in os.environ:  # without it nobody is served, and the first machine says so
        return None
    config = composer.compose(words, sweep).cluster
    if config.name != "env":
        return None
    from launcher.nodes import from_environment

    node = from_environment(config.port)
    if node.number == 0:
        return None
    from launcher.running.agent import serve

    return serve(node, config.join_timeout)
