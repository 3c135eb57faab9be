"""What Slurm says of the allocation that this process is in, by its own commands, each of which has 10 s."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from launcher.problems import Problem, Refused, RunFailed
from launcher.records.record import SlurmJob
from launcher.wording import plural, shorten

PATIENCE = 10.0  # seconds that a command of Slurm's has
HELD = 2  # seconds that a job may be short of its time limit when Slurm ends it for that: Slurm counts whole ones
JOB = "SLURM_JOB_ID"
SUBMITTED = "LAUNCHER_SUBMITTED"  # set where a job's script, made by a launcher, runs
NODE = "SLURMD_NODENAME"  # set by the node's daemon: without it this is the machine that salloc was typed on
CONTROLLER = "type sinfo here, and systemctl status slurmctld on the controller's machine"
SILENCE = (  # what a command says, what it means, and what to look at
    ("(?i)munge", "munge, by which Slurm knows who asks, does not work here", "type systemctl status munge"),
    (
        "(?i)authentication",
        "Slurm's controller does not believe who asks",
        "type systemctl status munge, and compare the clocks and munge.key of this machine and the controller's",
    ),
    (
        "(?i)slurm controller|control machine|slurmctld|timed out|connection refused|unable to resolve",
        "Slurm's controller does not answer",
        CONTROLLER,
    ),
    (
        "(?i)configuration (file|source)|cannot stat file",
        "Slurm's configuration can't be read here",
        "see SLURM_CONF, or /etc/slurm/slurm.conf",
    ),
)


class Silent(Refused):
    """Slurm can't be asked."""


@dataclass(frozen=True)
class Allocation:
    """The nodes that a job has.

    Args:
        job: its id. nodes: by name, in Slurm's order. mine: this one; "" if this process is on none of them.
    """

    job: str
    nodes: tuple[str, ...]
    mine: str

    def part(self, count: int | None) -> tuple[str, ...]:
        """So many of its nodes, this one first; None: all.

        Raises:
            Refused: it has fewer.
        """
        if count is not None and count > len(self.nodes):
            rule = f"job {self.job} has {plural(len(self.nodes), 'node')}: {shorten(', '.join(self.nodes))}"
            raise Refused([Problem(f"cluster.nodes={count}", rule, f"type {len(self.nodes)} or less, or leave it out")])
        others = [node for node in self.nodes if node != self.mine]
        return (self.mine, *others)[:count]


def allocation(given: Mapping[str, str] = os.environ) -> Allocation | None:
    """The allocation around this process; None if there is none.

    Raises:
        Silent: its commands are not here, or do not answer.
    """
    if not given.get(JOB):
        return None
    nodes = tuple(ask("scontrol", "show", "hostnames", given.get("SLURM_JOB_NODELIST", "")).split())
    return Allocation(given[JOB], nodes, given.get(NODE, ""))


@dataclass(frozen=True)
class Copies:
    """How many copies of this process one srun has started, and which of them this is."""

    count: int
    number: int


def copies(given: Mapping[str, str] = os.environ) -> Copies:
    """One, where no srun started this process: a batch script, or a shell."""
    count, number = (given.get(name, "") for name in ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"))
    known = count.isascii() and count.isdigit() and number.isascii() and number.isdigit()
    return Copies(int(count), int(number)) if known else Copies(1, 0)


def environment() -> dict[str, str]:
    """What srun is given, so that this package is found on another node as it is here."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_CPU_BIND")}
    if (root := Path(__file__).parents[1]).name not in ("site-packages", "dist-packages"):  # a checkout
        before = [path for path in given.get("PYTHONPATH", "").split(os.pathsep) if path and path != str(root)]
        given["PYTHONPATH"] = os.pathsep.join([str(root), *before])
    return given


def ask(*words: str, patience: float = PATIENCE) -> str:
    """What one of Slurm's commands prints.

    Args:
        patience: seconds that it has.

    Raises:
        Silent: it is not here, does not answer, or has nobody to ask.
        Refused: it fails otherwise.
    """
    name = words[0]
    if shutil.which(name) is None:
        rule = f"needs Slurm's commands, and {name} is not on this machine"
        raise Silent([Problem("cluster=slurm", rule, "type it on a machine of the cluster, or cluster=env elsewhere")])
    try:
        done = subprocess.run(words, capture_output=True, timeout=patience, stdin=subprocess.DEVNULL)
        code, said, errors = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        code, said, errors = None, b"", error.stderr or b""
    except OSError as error:
        raise Silent([Problem("cluster=slurm", f"{name} can't be run: {error.strerror}", "type sinfo")]) from error
    if code == 0:
        return said.decode(errors="backslashreplace")
    told = errors.decode(errors="backslashreplace").replace(f"{name}: ", "").replace("error: ", "")
    for heard, rule, look in SILENCE:
        if found := next((line for line in told.splitlines() if re.search(heard, line)), ""):
            raise Silent([Problem("cluster=slurm", f"{rule} ({name}: {shorten(found, 160)})", look)])
    if code is None:
        raise Silent([Problem("cluster=slurm", f"{name} has not answered within {patience:g} s", CONTROLLER)])
    words_ = shorten(" ".join(told.split()), 300) or f"exit code {code}"
    raise Refused([Problem("cluster=slurm", f"{name} says: {words_}", "see whether Slurm works: type sinfo")])


def facts(*words: str) -> dict[str, str]:
    """What `scontrol show` says of one thing, by name."""
    return dict(re.findall(r"(\S+?)=(\S*)", ask("scontrol", "--oneliner", "show", *words)))


def own() -> str:
    """The number of the job that this process is in, "" if it is in none.

    An element of an array is named as one: its SLURM_JOB_ID may be the array's, by which Slurm tells of all elements.
    """
    array, element = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{element}" if array and element else os.environ.get(JOB, "")


def address(own: str, other: str) -> str:
    """This node's address on the network by which it reaches another one.

    Raises:
        RunFailed: there is no way to it.
    """
    there = facts("node", other).get("NodeAddr", other)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((there, 9))  # which sends nothing: the system only looks for the way
            return str(probe.getsockname()[0])
    except OSError as error:
        raise RunFailed(f"{own} has no way to {other} ({there}): {error.strerror or error}") from error


@dataclass(frozen=True)
class Partition:
    """What a job's nodes are taken from: their number, and what each of them has at least.

    Args:
        memory_gib: main memory. card: the kind of its GPUs, as Slurm names it; "" without one.
    """

    name: str
    nodes: int
    cores: int
    memory_gib: float
    card: str


def partition(name: str | None) -> Partition:
    """A partition by its name; None: the cluster's own choice.

    Raises:
        Refused: there is none of this name, or Slurm does not answer.
    """
    rows = [line.split("|") for line in ask("sinfo", "--noheader", "--format=%P|%D|%c|%m|%G").splitlines()]
    names = sorted({row[0].rstrip("*") for row in rows})
    found = [row for row in rows if (row[0].endswith("*") if name is None else row[0].rstrip("*") == name)]
    if not found:
        value = "cluster=slurm" if name is None else f"cluster.partition={name}"
        rule = "the cluster has no default partition" if name is None else "unknown partition"
        raise Refused([Problem(value, f"{rule}; choose from {', '.join(names)}", f"type cluster.partition={names[0]}")])
    cores, memory = (min(int(re.sub(r"\D", "", row[column]) or 0) for row in found) for column in (2, 3))
    cards = re.findall(r"gpu:([A-Za-z][^:(),]*)", found[0][4])
    nodes = sum(int(row[1]) for row in found)
    return Partition(found[0][0].rstrip("*"), nodes, max(1, cores), memory / 1024, cards[0] if cards else "")


def state(number: str) -> str:
    """How a job stands, with the reason for which it waits; "" once it is gone.

    Raises:
        Refused: Slurm does not answer.
    """
    try:
        return ask("squeue", "--noheader", "--jobs", number, "--format=%T %r").strip()
    except Refused as refused:
        if "Invalid job id" in str(refused):  # forgotten some minutes after its end
            return ""
        raise


def elements(number: str) -> dict[int, str]:
    """How the elements of a job array stand that wait or run, by their numbers: as `state`.

    Raises:
        Refused: Slurm does not answer.
    """
    try:
        said = ask("squeue", "--noheader", "--array", "--jobs", number, "--format=%K %T %r")
    except Refused as refused:
        if "Invalid job id" in str(refused):
            return {}
        raise
    rows = (line.split(maxsplit=1) for line in said.splitlines())
    return {int(row[0]): row[1] for row in rows if len(row) == 2 and row[0].isdigit()}


@functools.cache
def job() -> SlurmJob | None:
    """What a record says of the job that this process is in; None if it is in none, or Slurm does not say."""
    number = os.environ.get(JOB, "")
    try:
        found = facts("job", own()) if number else {}
    except Refused:
        return None
    if not found:
        return None
    submitted, started = (_time(found.get(name, "")) for name in ("SubmitTime", "StartTime"))
    queued = None if submitted is None or started is None else max(0.0, (started - submitted).total_seconds())
    return SlurmJob(number, found.get("Partition", ""), queued)


def why_ended() -> str:
    """Why Slurm ends the job that this process is in: its time limit, a node that is down, preemption, or a person.

    "" if it does not end it, or does not say.
    """
    found: dict[str, str] = {}
    with contextlib.suppress(Refused):
        found = facts("job", number) if (number := own()) else {}
    if found.get("JobState", "RUNNING") == "RUNNING":
        return ""
    limit = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", found.get("TimeLimit", ""))
    started = _time(found.get("StartTime", ""))
    if limit is not None and started is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in limit.groups())
        allowed = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        if (datetime.now() - started).total_seconds() >= allowed - HELD:
            return f"Slurm job {number} reached its time limit of {found['TimeLimit']}"
    if found.get("PreemptTime", "None") not in ("None", "N/A"):
        return f"Slurm job {number} was preempted"
    if found.get("Reason") == "NodeDown":  # its NodeList has lost that node by now
        with contextlib.suppress(Refused):
            had = os.environ.get("SLURM_JOB_NODELIST", "")
            if down := ask("sinfo", "--noheader", "--dead", "--nodes", had, "--format=%N").split():
                return f"Slurm job {number} ended with its node {', '.join(down)}, which is down"
        return f"Slurm job {number} ended with one of its nodes, which is down"
    return f"Slurm job {number} was cancelled"


def _time(text: str) -> datetime | None:
    """A time as Slurm prints it, local."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
