"""Settings of Hydra's own that do nothing here: refused, for no setting is ignored."""

from __future__ import annotations

from collections.abc import Iterator

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from launcher.problems import Problem

LOGS = "logs go to the run directory, and Hydra's logging is off"
DISABLED = {"version": 1, "root": {"level": "ERROR"}, "disable_existing_loggers": True}  # as in conf/config.yaml


def unsupported(composed: DictConfig, sweep: bool) -> Iterator[Problem]:
    """What a configuration asks of Hydra that this program does itself, or not at all."""
    hydra, instead = composed.hydra, "leave it out"
    if hydra.callbacks:
        names = ", ".join(str(name) for name in hydra.callbacks)
        yield Problem(f"hydra.callbacks.{names}", "a run here calls no Hydra callbacks", instead)
    for name in ("job_logging", "hydra_logging"):
        if OmegaConf.to_container(hydra[name], resolve=False) != DISABLED:
            chosen = hydra.runtime.choices.get(f"hydra/{name}")
            value = f"hydra.{name}" if chosen == "disabled" else f"hydra/{name}={chosen}"
            yield Problem(value, LOGS, instead)
    if hydra.verbose:
        yield Problem(f"hydra.verbose={hydra.verbose}", LOGS, instead)
    subdir = hydra.output_subdir
    if subdir is not None and (subdir in ("", ".", "..") or "/" in subdir or "\0" in subdir):
        yield Problem(f"hydra.output_subdir={subdir}", "must be a plain name, within the run directory", instead)
    if hydra.job.chdir:
        rule = "a run writes to its own folder only, and never changes the current one"
        yield Problem("hydra.job.chdir=true", rule, instead)
    if hydra.mode is not None and (hydra.mode == RunMode.MULTIRUN) != sweep:
        right = "leave it out" if sweep else "type -m for a sweep"
        yield Problem(f"hydra.mode={hydra.mode.name}", "-m alone tells a sweep from a single run", right)
