"""A command line that was started several times, or on a machine that only hands it on."""

from __future__ import annotations

import os
import sys

from launcher.config.compose import Composer
from launcher.problems import Problem, Refused
from launcher.slurm import JOB
from launcher.wire.proof import VARIABLE as CLUSTER_SECRET_VARIABLE

TORCHRUN = "TORCHELASTIC_RUN_ID"
# One process that may use all that the job has on the node: the launcher there starts steps of its own beside it.
HAND_ON = "--overlap --nodes=1 --ntasks=1 --cpu-bind=none --unbuffered --quit-on-interrupt --export=ALL"


def served(composer: Composer, words: list[str], sweep: bool = False) -> int | None:
    """Serve the first machine, and return the exit code that it gives; None if this is the first, or the only one.

    In the shell of `salloc`, which is on none of the nodes, srun takes this process's place and starts the same line on
    the first of them.

    Raises:
        Refused: one launcher is enough, and there are several.
    """
    if not {CLUSTER_SECRET_VARIABLE, JOB, TORCHRUN} & os.environ.keys():  # nothing has started it anywhere else
        return None
    config = composer.compose(words, sweep).cluster
    if config.name == "env":
        return _served(config.port, config.join_timeout) if CLUSTER_SECRET_VARIABLE in os.environ else None
    if config.name not in ("none", "slurm"):
        return None
    if TORCHRUN in os.environ and (count := os.environ.get("WORLD_SIZE", "1")) != "1":
        here = "type python -m launcher ... without torchrun"
        return _only_first(
            os.environ.get("RANK") == "0",
            f"torchrun started {count} launchers, and one starts all ranks",
            f"{here}; on several machines torchrun --nproc-per-node 1 ... -m launcher cluster=env cluster.port=29511",
            config.name,
        )
    return _in_slurm(config.name) if JOB in os.environ else None


def _served(port: int | None, timeout: float) -> int | None:
    from launcher.nodes import from_environment

    node = from_environment(port)
    if node.number == 0:
        return None
    from launcher.running.agent import serve

    return serve(node, timeout)


def _in_slurm(cluster: str) -> int | None:
    from launcher import slurm

    copies = slurm.copies()
    if copies.count > 1:
        rule = f"srun started {copies.count} launchers, and one starts all ranks"
        instead = "type python -m launcher cluster=slurm ... without srun: it calls srun itself"
        return _only_first(copies.number == 0, rule, instead, cluster)
    if cluster == "slurm" and not os.environ.get(slurm.NODE):
        line = ["srun", *HAND_ON.split(), *(["--pty"] if sys.stdin is not None and sys.stdin.isatty() else [])]
        slurm.ask("srun", "--version")
        os.execvpe("srun", [*line, sys.executable, "-m", "launcher", *sys.argv[1:]], slurm.environment())
    return None


def _only_first(first: bool, rule: str, instead: str, cluster: str) -> int:
    """Refuse, in the words of one of several processes; the others just end, and not as failures.

    torchrun, and some sruns, kill all at the first failure: the one that has something to say must be that.
    """
    if first:
        raise Refused([Problem(f"cluster={cluster}", rule, instead)])
    return 0
