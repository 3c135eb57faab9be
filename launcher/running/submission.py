"""A run that is handed to Slurm from a login node: its job script, made by submitit, and what the job reads.

The configuration is composed once, here: the job reads the result, and asks only what its node has.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from launcher import slurm
from launcher.config.schema import ClusterConfig
from launcher.problems import Problem, Refused
from launcher.records.run_dir import RunDir
from launcher.request.request import Request

PACKAGE = "submitit"
SCRIPT, COMPOSED, OUTPUT = "job.sh", "job.yaml", "job.out"  # in a run's folder, the last among its logs


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
        Refused: submitit or Slurm is not here.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        rule = f"submits a job by the package {PACKAGE}, which is not installed"
        raise Refused([Problem("cluster=slurm", rule, f"type pip install {PACKAGE}, or start it in an allocation")])
    slurm.ask("sbatch", "--version")


def script(request: Request, folder: Path) -> str:
    """The job script of a run.

    Args:
        folder: the run's.
    """
    from submitit.slurm.slurm import _make_sbatch_string

    config, nodes = request.config.cluster, request.machine.nodes
    run_dir = RunDir(folder.absolute())
    more: dict[str, Any] = {
        "no-requeue": True,  # a second start would find a run in its folder: resume= and reproduce go on with it
        "output": str(run_dir.logs / OUTPUT).replace("%", "%%"),
        "signal": f"B:USR1@{config.signal_delay_s}",  # to the launcher, which takes the script's place
    }
    return str(
        _make_sbatch_string(
            command=f"exec {shlex.join([sys.executable, '-m', 'launcher.cli.job', str(run_dir.path)])}",
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


def submit(
    composed: DictConfig, request: Request, words: list[str], folder: Path, options: list[str], only_check: bool
) -> str:
    """Write what the job reads into a run's folder, and hand the job over; it is held until `release`.

    Returns:
        Its number.

    Raises:
        Refused: Slurm does not take it.
    """
    path, kept = folder / SCRIPT, folder / COMPOSED
    RunDir(folder).logs.mkdir(parents=True, exist_ok=True)
    plain = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    pinned = {"seed": request.seed, "runtime": {"device": request.device, "processes": request.mesh.ranks}}
    content = {
        "config": _escaped(OmegaConf.to_container(OmegaConf.merge(plain, pinned), resolve=True)),
        "hydra": OmegaConf.to_container(composed.hydra, resolve=False),
        "words": words,
        "options": options,
        "only_check": only_check,
    }
    with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        yaml.safe_dump(content, file)  # hydra.job.env_set may hold what is private
    path.write_text(script(request, folder), encoding="utf-8")
    try:
        return slurm.ask("sbatch", "--parsable", "--hold", str(path)).strip().partition(";")[0]
    except Refused:
        path.unlink()
        kept.unlink()
        raise


def read(folder: Path) -> Submitted:
    """What `submit` has written into a run's folder."""
    content = yaml.safe_load((folder / COMPOSED).read_text(encoding="utf-8"))
    composed = OmegaConf.create(content["config"] | {"hydra": content["hydra"]})
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
        "wait",
    )
    return [name for name in names if getattr(config, name) != getattr(usual, name)]
