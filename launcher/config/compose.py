"""Words on a command line to a LaunchConfig, by Hydra; and Hydra's errors to problems that say what to type.

`hydra.main` prints its errors itself and ends the process; its own class underneath raises them, which is why
`hydra._internal` is used here, and only here. Hydra is pinned to 1.3 in pyproject.toml.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import shlex
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import run_job
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from launcher.config.schema import LaunchConfig, conf_dir
from launcher.problems import Problem, Refused, RunFailed, nearest

CONFIG = "config"
SIGNS = "()[]{},:=\\\"'"  # what Hydra's grammar reads for itself
# Names that users of diffusers and accelerate know for what has another one here, or none.
ELSEWHERE = {
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "true_cfg_scale": "model.true_cfg",
    "num_images_per_prompt": "images",
    "num_frames": "frames",
    "frame_rate": "fps",
    "max_sequence_length": "model.text_tokens",
    "torch_dtype": "runtime.dtype",
    "num_processes": "runtime.processes",
    "gpu_ids": "runtime.devices",
    "attention_backend": "attention.kernel",
}
NOT_NEEDED = {
    "rotate_method": ("keys travel around a ring as cp.schedule says", "type cp.schedule=gather or leave it out"),
    "main_process_port": ("each group of ranks takes a free port by itself", "leave it out"),
    "main_process_ip": ("ranks run on this machine only", "leave it out"),
    "rdzv_endpoint": ("ranks run on this machine only", "leave it out"),
    "image": ("no model of this program takes a picture to start from", "leave it out"),
}
NAMES = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}


class Composer:
    """Composes configurations from conf/ and an optional folder of the user's."""

    def __init__(self, config_dir: str | None = None) -> None:
        ConfigStore.instance().store("launch_schema", LaunchConfig)
        # Two runs that start in the same second get different folders; cached, so that one run has one id.
        OmegaConf.register_new_resolver("short_id", lambda: uuid.uuid4().hex[:6], use_cache=True, replace=True)
        search_path = create_automatic_config_search_path(None, None, str(conf_dir()))
        if config_dir is not None:
            if not os.path.isdir(config_dir):
                raise Refused(
                    [Problem(f"--config-dir {config_dir}", "is no folder", "give the folder of your YAML files")]
                )
            query = SearchPathQuery(provider="schema")
            search_path.prepend("command-line", f"file://{os.path.abspath(config_dir)}", query)
        GlobalHydra.instance().clear()
        self.hydra = Hydra.create_main_hydra2("launcher", search_path)

    def check_words(self, words: list[str], sweep: bool) -> None:
        """Refuse overrides that name no setting or no option, each with the nearest legal ones."""
        problems = []
        for word in words:
            try:
                override = OverridesParser.create().parse_override(word)
            except HydraException as error:  # the parser's, or that of a function such as range()
                problems.append(_unreadable(word, error))
                continue
            problems += self._key_problems(override, word)
            if not sweep and override.is_sweep_override():
                instead, field = "type -m for a sweep", fields().get(override.key_or_group)
                if field is not None and "str" in str(field.type):
                    typed = shlex.quote(f"{override.key_or_group}={quoted(word.partition('=')[2])}")
                    instead += f", or quote it: {typed}"
                problems.append(Problem(word, "lists several values, and this is a single run", instead))
        if problems:
            raise Refused(problems)

    def compose(self, words: list[str], sweep: bool = False) -> DictConfig:
        """The composed configuration, `hydra` node included.

        Raises:
            Refused: a value of the wrong type, a broken YAML file, and whatever else Hydra refuses.
        """
        with translated():
            mode = RunMode.MULTIRUN if sweep else RunMode.RUN
            return self.hydra.compose_config(CONFIG, words, mode, with_log_configuration=False)

    def jobs(self, master: DictConfig, words: list[str]) -> list[list[str]]:
        """The settings of each job of a sweep, in Hydra's order.

        Raises:
            Refused: the sweeper is not Hydra's basic one: which jobs another one makes is not known beforehand.
        """
        sweeper, launcher = master.hydra.sweeper, master.hydra.launcher
        for name, node in (("sweeper", sweeper), ("launcher", launcher)):
            if not str(node._target_).endswith((".BasicSweeper", ".BasicLauncher")):
                value = f"hydra/{name}={str(node._target_).rsplit('.', 1)[-1]}"
                raise Refused([Problem(value, f"sweeps over warm ranks use Hydra's basic {name}", "leave it out")])
        with translated():
            fixed = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
            own = [word for word in words if not word.startswith(("hydra.", "hydra/", "resume="))]
            parser = OverridesParser.create(config_loader=self.hydra.config_loader)
            (batch,) = BasicSweeper.split_arguments(parser.parse_overrides([*fixed, *own]), None)
            return batch

    def job(self, master: DictConfig, words: list[str], number: int) -> DictConfig:
        """One job's configuration, as Hydra's own launcher would compose it."""
        with translated():
            composed = self.hydra.config_loader.load_sweep_config(master, words)
            with open_dict(composed):
                composed.hydra.job.id = composed.hydra.job.num = number
            return composed

    def run(self, composed: DictConfig, task: Callable[[DictConfig], None], sweep: bool = False) -> None:
        """Have Hydra make the run directory, with its `.hydra/`, and call `task`.

        `Hydra.run` and `multirun` do the same, but compose again (0.1 s a job), and print errors themselves.
        """
        keys = ("hydra.sweep.dir", "hydra.sweep.subdir") if sweep else ("hydra.run.dir", None)
        callbacks = Callbacks(composed)
        context = HydraContext(config_loader=self.hydra.config_loader, callbacks=callbacks)
        with translated():
            try:
                run_job(task, composed, job_dir_key=keys[0], job_subdir_key=keys[1], hydra_context=context)
            except OSError as error:
                raise RunFailed(f"the run's folder cannot be written: {error}") from error

    @functools.cached_property
    def groups(self) -> dict[str, list[str]]:
        """Every choice (`model`, `cp` ...) and its options."""
        found = self.hydra.config_loader.repository  # type: ignore[attr-defined] # get_group_options of the loader copies it
        names = [name for name in found.get_group_options("", ObjectType.GROUP) if name not in ("hydra", "local")]
        return {name: found.get_group_options(name, ObjectType.CONFIG) for name in sorted(names)}

    def _key_problems(self, override: Override, word: str) -> Iterator[Problem]:
        key, groups = override.key_or_group, self.groups
        if key.split(".")[0].split("/")[0] in ("hydra", "local"):
            return
        if override.is_delete():
            yield Problem(word, "takes a setting away, and every setting is needed", f"type {key}=VALUE instead")
            return
        if key in groups:
            chosen = override.value()
            picked = [chosen] if not override.is_sweep_override() else list(override.sweep_string_iterator())
            for option in picked:
                option = str(option)
                if option not in groups[key] and option not in ("null", "None"):
                    best = (nearest(option, groups[key], 1) or groups[key])[0]
                    yield Problem(f"{key}={option}", f"{key} is one of {', '.join(groups[key])}", f"type {key}={best}")
            return
        legal = [*fields(), *groups]
        if key not in legal:
            last, value = key.split(".")[-1], word.partition("=")[2]
            if last in NOT_NEEDED:
                yield Problem(word, *NOT_NEEDED[last])
                return
            # a last part alone, as in `ring_degree=2`, is what people type first
            tail = [ELSEWHERE[last]] if last in ELSEWHERE else []
            tail = tail or [name for name in legal if name.split(".")[-1] == last]
            near = tail or nearest(key, legal) or nearest(key, [name.split(".")[-1] for name in legal])
            instead = " or ".join(f"{name}={value}" for name in near)
            rule = "is no setting of this program"
            yield Problem(word, rule, f"type {instead}" if near else "type --help for the list")


def fields(schema: type = LaunchConfig, prefix: str = "") -> dict[str, dataclasses.Field[Any]]:
    """Every setting by its dotted name, with its dataclass field."""
    found = {}
    for field in dataclasses.fields(schema):
        nested = field.default_factory
        if isinstance(nested, type) and dataclasses.is_dataclass(nested):
            found |= fields(nested, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = field
    return found


def to_config(composed: DictConfig) -> LaunchConfig:
    """The typed configuration, every interpolation resolved."""
    with translated():
        plain = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(LaunchConfig), plain))
    assert isinstance(config, LaunchConfig)
    return config


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what Hydra, OmegaConf and YAML raise into Refused."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, OSError, UnicodeError) as error:
        raise Refused([_problem(error)]) from error


def _problem(error: BaseException) -> Problem:
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, OmegaConfBaseException):
        key, message = str(cause.full_key or "configuration"), str(cause.msg or cause).splitlines()[0]
        expected = next((words for name, words in NAMES.items() if f"converted to {name}" in message), None)
        if expected is not None:
            value = message.split("'")[1] if "'" in message else ""
            return Problem(f"{key}={value}", f"must be {expected}", f"type {key}={_example(key)}")
        instead = "type --help for the settings and their types"
        if "nterpolation" in message or "${" in message:
            instead = r"type \${ for these two characters themselves, or use prompt_file=FILE"
        return Problem(key, message, instead)
    told = str(error).partition("Config search path:")[0]  # which names this machine's folders
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return Problem("configuration", " ".join(lines)[:400] or type(error).__name__, "type --help for what can be set")


def _example(key: str) -> str:
    examples = {"height": "1000", "width": "1000", "guidance": "3.5", "runtime.devices": "[0,1]"}
    return examples.get(key, "2")


def _unreadable(word: str, error: HydraException) -> Problem:
    key, sign, value = word.partition("=")
    if not sign:
        near = nearest(word.lstrip("-"), ["height", "width", "model", "cp", "prompt", "seed", "steps"], 1)
        instead = f"type {near[0]}=VALUE" if near else "type --help for the list"
        return Problem(word, "is no setting: key=value is expected", instead)
    reason = str(error).splitlines()[0] if str(error) else "unreadable"
    if not value.startswith(("'", '"')) and (signs := [sign for sign in SIGNS if sign in value]):
        reason = f"{' '.join(signs)} must be quoted"
    typed = shlex.quote(f"{key}={quoted(value.strip(chr(39) + chr(34)))}")
    return Problem(word, f"cannot be read: {reason}", f"quote it: {typed}, or use prompt_file=FILE")


def quoted(value: str) -> str:
    """A value between double quotes, as Hydra's grammar and then OmegaConf's read it back, whatever it holds.

    Backslashes mean something only before a quote, the end, and `${`, which would start an interpolation.
    """
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    value = re.sub(r"(\\*)\"", r"\1\1" + r'\\"', value)
    return '"' + re.sub(r"(\\+)\Z", r"\1\1", value) + '"'
