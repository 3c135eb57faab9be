"""A run that is handed to Slurm from a login node: its job script, made by submitit, and what the job reads.

The configuration is composed once, here: the job reads the result, and asks only what its node has.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict

from launcher import slurm
from launcher.config.schema import ClusterConfig, LaunchConfig
from launcher.problems import Problem, Refused
from launcher.records.record import SlurmJob
from launcher.records.run_dir import RunDir
from launcher.request.request import Request

PACKAGE = "submitit"
SCRIPT, COMPOSED, OUTPUT = "job.sh", "job.yaml", "job.out"  # in a run's folder, the last among its logs
SUBMISSION = 30.0  # seconds that sbatch has: a busy controller has it wait


@dataclass(frozen=True)
class Submitted:
    """What a job reads: the words that were typed, and what was composed of them."""

    composed: DictConfig
    words: list[str]
    options: list[str]
    only_check: bool


def needed() -> None:
    """See that a job can be submitted from here.

    Raises:
        Silent: submitit or Slurm is not here.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        rule = f"submits a job by the package {PACKAGE}, which is not installed"
        raise slurm.Silent(
            [Problem("cluster=slurm", rule, f"type pip install {PACKAGE}, or start it in an allocation")]
        )
    slurm.ask("sbatch", "--version")


def script(request: Request, folder: Path, elements: int | None = None) -> str:
    """The job script of a run, or of a sweep.

    Args:
        folder: the run's, or the sweep's.
        elements: of the job array that the sweep is.
    """
    from submitit.slurm.slurm import _make_sbatch_string

    config, nodes = request.config.cluster, request.machine.nodes
    run_dir = RunDir(folder.absolute())
    more: dict[str, Any] = {
        "no-requeue": True,  # a second start would find a run in its folder: resume= and reproduce go on with it
        "output": str(run_dir.logs / OUTPUT).replace("%", "%%"),
        "signal": f"B:USR1@{config.signal_delay_s}",  # to the launcher, which takes the script's place
    }
    command = f"exec {shlex.join([sys.executable, '-m', 'launcher.cli.job', str(run_dir.path)])}"
    if elements is not None:
        more["output"] = f"{str(run_dir.logs).replace('%', '%%')}/job%a.out"
        command += ' "$SLURM_ARRAY_TASK_ID"'
    return str(
        _make_sbatch_string(
            command=command,
            map_count=elements,
            array_parallelism=config.array_parallelism,
            folder=run_dir.logs,
            job_name="launcher",
            time=config.timeout_min,
            nodes=nodes,
            ntasks_per_node=config.tasks_per_node or max(1, request.mesh.ranks // nodes),
            gpus_per_node=config.gpus_per_node,
            partition=config.partition,
            account=config.account,
            qos=config.qos,
            constraint=config.constraint,
            setup=[*(config.setup or ()), *_importable()],
            stderr_to_stdout=True,
            use_srun=False,
            additional_parameters=more | {str(key): value for key, value in config.additional_parameters.items()},
        )
    )


def _importable() -> list[str]:
    """What a checkout needs to be found by the job, whatever folder it was typed in."""
    path = slurm.environment().get("PYTHONPATH")
    return [f"export PYTHONPATH={shlex.quote(path)}"] if path else []


def write(
    composed: DictConfig, request: Request, words: list[str], folder: Path, options: list[str], only_check: bool
) -> None:
    """Write what a job reads into a run's folder."""
    plain = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    pinned = {"seed": request.seed, "runtime": {"device": request.device, "processes": request.mesh.ranks}}
    content = {
        "config": _escaped(OmegaConf.to_container(OmegaConf.merge(plain, pinned), resolve=True)),
        "hydra": OmegaConf.to_container(composed.hydra, resolve=False),
        "words": words,
        "options": options,
        "only_check": only_check,
    }
    how = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(folder / COMPOSED, how, 0o600), "w", encoding="utf-8") as file:
        yaml.safe_dump(content, file)  # hydra.job.env_set may hold what is private


def hand_over(text: str, folder: Path) -> str:
    """Give a job script to Slurm, which holds the job until it is released; returns its number.

    Raises:
        Refused: Slurm does not take it; the script is gone again.
    """
    path = folder / SCRIPT
    path.write_text(text, encoding="utf-8")
    try:
        said = slurm.ask("sbatch", "--parsable", "--hold", str(path), patience=SUBMISSION)
    except slurm.Silent as error:  # it may have the job all the same, which is held: it never starts
        path.unlink()
        (problem,) = error.problems
        raise slurm.Silent([replace(problem, instead=f"{problem.instead}; squeue --me may show a held job")]) from error
    except Refused:
        path.unlink()
        raise
    return said.strip().partition(";")[0]


@contextlib.contextmanager
def held_job(number: str) -> Iterator[SlurmJob]:
    """A job that was handed over, to be written down; then it may start.

    Raises:
        Refused: Slurm does not answer any more; the job is cancelled if that can be said.
    """
    try:
        yield SlurmJob(number, slurm.facts("job", number).get("Partition", ""))
        slurm.ask("scontrol", "release", number)
    except Refused as error:
        with contextlib.suppress(Refused):
            slurm.ask("scancel", number)
        (problem,) = error.problems
        rule = f"job {number} was submitted and does not start, for {problem.rule}"
        raise Refused([replace(problem, rule=rule, instead=f"{problem.instead}; then scancel {number}")]) from error


def submit(
    composed: DictConfig, request: Request, words: list[str], folder: Path, options: list[str], only_check: bool
) -> str:
    """Write what the job reads into a run's folder, and hand the job over; returns its number.

    Raises:
        Refused: Slurm does not take it.
    """
    RunDir(folder).logs.mkdir(parents=True, exist_ok=True)
    write(composed, request, words, folder, options, only_check)
    try:
        return hand_over(script(request, folder), folder)
    except Refused:
        (folder / COMPOSED).unlink()
        raise


def read(folder: Path) -> Submitted:
    """What `submit` has written into a run's folder."""
    content = yaml.safe_load((folder / COMPOSED).read_text(encoding="utf-8"))
    composed = OmegaConf.merge(OmegaConf.structured(LaunchConfig), content["config"])  # each setting has its type again
    assert isinstance(composed, DictConfig)
    with open_dict(composed):
        composed.hydra = content["hydra"]
    return Submitted(composed, content["words"], content["options"], content["only_check"])


def _escaped(value: Any) -> Any:
    """Data whose text OmegaConf reads back as it stands, a prompt with `${` too."""
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if hasattr(value, "__fspath__"):
        return str(value)
    return re.sub(r"(\\*)\$\{", lambda found: f"{2 * found[1]}\\${{", value) if isinstance(value, str) else value


def asked_of_slurm(config: ClusterConfig) -> list[str]:
    """The settings of a job that were given, as words."""
    usual = ClusterConfig()
    names = (
        "gpus_per_node",
        "timeout_min",
        "partition",
        "account",
        "qos",
        "constraint",
        "setup",
        "additional_parameters",
        "signal_delay_s",
        "array_parallelism",
        "wait",
    )
    return [name for name in names if getattr(config, name) != getattr(usual, name)]
