"""Agents that Slurm starts: one `srun` puts one on each of an allocation's other nodes, and says how they ended."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from launcher import slurm
from launcher.config.schema import ClusterConfig
from launcher.nodes import Node
from launcher.problems import Problem, Refused, RunFailed
from launcher.slurm import Allocation
from launcher.wire.proof import VARIABLE as CLUSTER_SECRET_VARIABLE
from launcher.wording import shorten

END_TIMEOUT = 5.0  # seconds that srun has once its agents were told to leave
# One process a node, which may use all that the job has there; steps of one job share it.
FLAGS = "--overlap --ntasks-per-node=1 --cpu-bind=none --kill-on-bad-exit=0 --unbuffered --input=none --export=ALL"
NOT_HEARD = ("cpu binding", "Job step aborted", "got SIGCONT", "forcing job termination")  # of srun's lines


class Summoned:
    """The agents of a session, and the srun that they are below.

    Args:
        nodes: where, by name.
        first: whom they serve.
        words: more words for srun, as the user typed them.
        timeout: seconds that the first machine has to be there.
    """

    def __init__(self, nodes: Sequence[str], first: Node, words: Sequence[str], timeout: float) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the session
        agent = [sys.executable, "-m", "launcher.cli.agent", first.address, str(first.port), str(first.count)]
        where = [f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}", f"--nodelist={','.join(nodes)}"]
        environment = slurm.environment() | {CLUSTER_SECRET_VARIABLE: first.secret}
        command = ["srun", *FLAGS.split(), *where, *words, *agent, f"{timeout:g}"]
        try:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is the launcher's to pass on
            )
        except OSError as error:
            raise RunFailed(f"srun can't be started: {error.strerror}") from error

    def words(self) -> str:
        """What srun, or an agent below it, has said last that tells a reason; "" if nothing."""
        self._said.seek(0)
        lines = self._said.read(1 << 20).decode(errors="backslashreplace").splitlines()
        heard = [line for line in lines if line.strip() and not any(each in line for each in NOT_HEARD)]
        cancelled = [line for line in heard if " CANCELLED AT " in line]
        return shorten((cancelled or heard or [""])[-1].strip().strip("*"), 200)

    def ended(self) -> str:
        """How srun ended, "" while it runs."""
        code = self._process.poll()
        return "" if code is None else f"srun ended with exit code {code}: {self.words() or 'without a word'}"

    def close(self) -> None:
        """End what is left of them."""
        try:
            self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            try:
                self._process.wait(END_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(END_TIMEOUT)
        self._said.close()


def first_of(config: ClusterConfig, found: Allocation) -> tuple[Node, tuple[str, ...]]:
    """This node as the first of those that work together, with a secret of their own, and the names of the others.

    Raises:
        Refused: this process is on no node of the allocation, or it has too few.
        RunFailed: this node can't reach the next one.
    """
    if not found.mine:
        rule = f"this process is on no node of job {found.job}"
        instead = f"type srun --jobid={found.job} --overlap --nodes=1 --ntasks=1 python ..."
        raise Refused([Problem("cluster=slurm", rule, instead)])
    mine, *others = found.part(config.nodes)
    address = slurm.address(mine, others[0]) if others else "127.0.0.1"
    return Node(0, 1 + len(others), address, config.port or 0, secrets.token_hex(32)), tuple(others)
