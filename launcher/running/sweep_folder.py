"""The folder of a sweep: whose it is, where each job's folder lies in it, and whether an earlier sweep was this one."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf, flag_override

from launcher.config import hydra_seam, yaml_files
from launcher.config.compose import translated
from launcher.config.paths import path_problems, user_path
from launcher.problems import Problem, Refused
from launcher.running.sweep import REFUSED, Sweep

CONTACT = "contact.png"  # a sweep's pictures side by side
MULTIRUN = "multirun.yaml"  # a sweep's own configuration, in its folder
MAX_MULTIRUN = 1 << 20  # bytes; a usual one has 10 KiB
SUBDIR = "hydra.sweep.subdir"
MOMENT = re.compile(r"\$\{(?:now|short_id):")  # a resolver that gives another name each time


def check_earlier(master: DictConfig, folder: Path, value: str) -> int | None:
    """Look whether the folder is that of an earlier sweep, whose jobs lie where this one's would; gives its seed.

    Raises:
        Refused: it is not, or names its jobs' folders in another way; nothing is moved then.
    """
    if not (folder / MULTIRUN).is_file():
        instead = "type resume=FOLDER, as the sweep's first lines named it"
        raise Refused([Problem(value, "not the folder of an earlier sweep", instead)])
    try:
        kept = yaml.safe_load(yaml_files.check(folder / MULTIRUN, MAX_MULTIRUN))
        then = str(kept["hydra"]["sweep"]["subdir"])
    except (yaml.YAMLError, RecursionError, *yaml_files.UNEXPECTED) as error:  # UnreadableError is a ValueError
        rule = f"its {MULTIRUN} can't be read as that of a sweep"
        raise Refused([Problem(value, rule, "start a new sweep, without resume")]) from error
    now = OmegaConf.to_container(master.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index, call-overload]
    if then != now:
        rule = f"its jobs lie in {SUBDIR}={then}, and here they would lie in {SUBDIR}={now}"
        raise Refused([Problem(value, rule, f"type {shlex.quote(f'{SUBDIR}={then}')} as well")])
    if MOMENT.search(then):
        rule = f"its jobs lie in {SUBDIR}={then}, another folder each time: they can't be found again"
        raise Refused([Problem(value, rule, "start a new sweep, without resume")])
    seed = kept.get("seed")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None  # older sweeps have none


def place(sweep: Sweep, folder: Path) -> None:
    """Give each job of a sweep its folder; those that have none of their own are refused."""
    taken: dict[Path, int] = {}
    for number, job in enumerate(sweep.jobs):
        if job.composed is None:
            continue
        try:
            job.folder = _folder(job.composed, folder)
            found = []
        except Refused as refused:
            found = refused.problems
        if job.folder is not None and (other := taken.setdefault(job.folder, number)) != number:
            rule = f"jobs {other} and {number} would share the folder {job.folder.name}"
            found = [Problem(f"hydra.sweep.subdir={job.composed.hydra.sweep.subdir}", rule, "leave it out")]
        if found:
            job.problems = [*job.problems, *found]
            job.fail(REFUSED, "; ".join(str(problem) for problem in job.problems))


def _folder(composed: DictConfig, sweep: Path) -> Path:
    """The folder of one job of a sweep."""
    with flag_override(composed, "readonly", False), flag_override(composed.hydra, "readonly", False):
        composed.hydra.sweep.dir = str(sweep)
    with translated():
        name = hydra_seam.folder_name(composed, "hydra.sweep.dir", "hydra.sweep.subdir")
    if found := list(path_problems({"hydra.sweep.subdir": name})):
        raise Refused(found)
    return hydra_seam.put_into(composed, user_path(name))


def claim(master: DictConfig, sweep: Sweep, folder: Path, value: str) -> None:
    """Write a new sweep's own configuration, as Hydra does, into a folder that holds no sweep yet."""
    used = [
        folder / MULTIRUN,
        folder / CONTACT,
        *(job.folder / "run.json" for job in sweep.jobs if job.folder is not None),
    ]
    if any(os.path.lexists(path) for path in used):
        instead = f"choose another folder, or type resume={shown(folder)} to run what is missing"
        raise Refused([Problem(value, "holds a sweep already", instead)])
    with (folder / MULTIRUN).open("x", encoding="utf-8", errors="backslashreplace") as file:
        file.write(OmegaConf.to_yaml(hydra_seam.without_paths(master)))


def shown(folder: Path) -> Path:
    """A folder as the user knows it: from here, if it is below."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # removed meanwhile
        return folder
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
