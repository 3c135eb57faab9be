"""Which of several machines this one is, by the variables of what started the launcher on all of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher import slurm
from launcher.problems import Problem, Refused
from launcher.slurm import Allocation
from launcher.wire.proof import LEAST
from launcher.wire.proof import VARIABLE as SECRET

MAX_NODES = 256
# torchrun's own flags as variables (PET_, which Kubernetes' training operator sets too), what torchrun gives to what it
# starts (GROUP_), Slurm's, and the plain names of most scripts. Where several are set they must agree.
COUNT = ("NNODES", "PET_NNODES", "GROUP_WORLD_SIZE", "SLURM_NNODES")
NUMBER = ("NODE_RANK", "PET_NODE_RANK", "GROUP_RANK", "SLURM_NODEID")
ADDRESS = ("MASTER_ADDR", "PET_MASTER_ADDR")
PORT = ("MASTER_PORT", "PET_MASTER_PORT")
EXAMPLE = "MASTER_ADDR=HOST MASTER_PORT=29500 NNODES=2 NODE_RANK=0"


@dataclass(frozen=True)
class Node:
    """One machine of several: its number, from 0; how many there are; where the first one listens, and the secret."""

    number: int
    count: int
    address: str
    port: int
    secret: str = field(repr=False)


def from_environment(port: int | None, given: Mapping[str, str] = os.environ) -> Node:
    """This machine.

    Args:
        port: in place of the one in the environment.

    Raises:
        Refused: a variable is missing or wrong.
    """
    found: list[Problem] = []
    count = _number(given, COUNT, 1, MAX_NODES, found)
    number = _number(given, NUMBER, 0, max(0, count - 1), found)
    address = _one(given, ADDRESS, found)
    port = _number(given, PORT, 1, 65535, found) if port is None else port
    secret = given.get(SECRET, "")
    if len(secret) < LEAST:
        rule = f"has {len(secret)} characters, and at least {LEAST} are needed" if secret else "is not set"
        make = f"make one, export {SECRET}=$(openssl rand -hex 32), and set the same on every machine"
        found.append(Problem(SECRET, rule, make))
    if given.get("LOCAL_RANK", "0") != "0":
        rule = "one launcher a machine starts all of its ranks, and this is another one"
        found.append(Problem(f"LOCAL_RANK={given['LOCAL_RANK']}", rule, "type torchrun --nproc-per-node 1"))
    if found:
        raise Refused(found)
    return Node(number, count, address, port, secret)


def host() -> str:
    """This machine's name: the one that Slurm knows it by, or its own."""
    return os.environ.get(slurm.NODE) or socket.gethostname()


def in_allocation() -> Allocation:
    """The Slurm allocation around this process.

    Raises:
        Refused: there is none, or Slurm does not answer.
    """
    found = slurm.allocation()
    if found is None:
        rule = "needs a Slurm allocation, and this process is in none (SLURM_JOB_ID is not set)"
        raise Refused([Problem("cluster=slurm", rule, "type salloc --nodes=2 first, or put it into a batch script")])
    return found


def _one(given: Mapping[str, str], names: tuple[str, ...], found: list[Problem]) -> str:
    """What these variables say, as far as they are set; problems are added to `found`."""
    told = {name: given[name] for name in names if given.get(name)}
    if not told:
        rule = f"needs {' or '.join(names)}, which is not set on this machine"
        found.append(Problem("cluster=env", rule, f"set it on every machine: {EXAMPLE}"))
        return ""
    if len(set(told.values())) > 1:
        words = " and ".join(f"{name}={value}" for name, value in told.items())
        found.append(Problem("cluster=env", f"{words} contradict each other", "unset the wrong one"))
    return next(iter(told.values()))


def _number(given: Mapping[str, str], names: tuple[str, ...], least: int, most: int, found: list[Problem]) -> int:
    before = len(found)
    text = _one(given, names, found)
    if len(found) > before:
        return least
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        name = next(name for name in names if given.get(name))
        found.append(Problem(f"{name}={text}", f"must be a whole number from {least} to {most}", f"set {name} anew"))
        return least
    return int(text)
