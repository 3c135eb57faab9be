"""Words on a command line to a LaunchConfig, by Hydra; and Hydra's errors to problems that say what to type."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import re
import shlex
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from launcher.config import hydra_seam, suggest
from launcher.config.paths import conf_dir, user_path
from launcher.config.schema import LaunchConfig
from launcher.config.text import PROMPTS, as_typed, fields, parse, unescaped
from launcher.config.yaml_files import UNEXPECTED
from launcher.problems import Problem, Refused, choices, nearest

CONFIG, SCHEMA = "config", "launch_schema"


class Composer:
    """Composes configurations from conf/ and an optional folder of the user's.

    Raises:
        Refused: the user's folder does not exist.
    """

    def __init__(self, config_dir: str | None = None) -> None:
        ConfigStore.instance().store(SCHEMA, LaunchConfig)
        # Two runs that start in the same second get different folders; cached, so that one run has one id.
        OmegaConf.register_new_resolver("short_id", lambda: uuid.uuid4().hex[:6], use_cache=True, replace=True)
        own = None if config_dir is None else _own_folder(config_dir)
        self.options = [] if config_dir is None else ["--config-dir", config_dir]  # to type before the same words
        self._loader = hydra_seam.make_loader(conf_dir(), own, "launcher")

    @functools.cached_property
    def groups(self) -> dict[str, list[str]]:
        """Every choice (`model`, `cp` ...) and its options."""
        with translated(), hydra_seam.LOCK:
            return {name: options for name, options in hydra_seam.groups(self._loader).items() if name != "local"}

    def check_words(self, words: list[str], sweep: bool) -> None:
        """Refuse words that name no setting or no option, each with the nearest legal ones."""
        problems = [suggest.carriage_return(word) for word in words if word.endswith("\r")]
        problems += suggest.too_long(words)
        problems += [suggest.SEARCHPATH for word in words if word.lstrip("+").startswith("hydra.searchpath=")]
        problems += [problem for word in words for problem in suggest.shell_variable(word)]
        problems += [problem for word in words for problem in suggest.no_value(word)]
        problems += [problem for word in words for problem in suggest.into_plan(word)]
        problems += suggest.without_sign(words, self.groups)
        problems += [problem for word in words for problem in suggest.elsewhere(word, sweep)]
        if problems:
            raise Refused(problems)
        for typed, word in zip(words, as_typed(words, sweep), strict=True):
            try:
                override = parse(word)
            except HydraException as error:
                problems.append(suggest.unreadable(typed, error))
                continue
            found = list(suggest.unknown(override, typed, self.groups))
            problems += found
            if not sweep and not found and override.is_sweep_override():
                problems.append(suggest.several(override, typed))
        if problems:
            raise Refused(problems)

    def compose(self, words: list[str], sweep: bool = False) -> DictConfig:
        """The composed configuration, `hydra` node included.

        Raises:
            Refused: a value of the wrong type, a broken YAML file, and whatever else Hydra refuses.
        """
        try:
            os.getcwd()
        except FileNotFoundError as error:  # which Hydra notes in the configuration
            rule, instead = "was removed, and a run has to start in one", "type cd FOLDER"
            raise Refused([Problem("the current folder", rule, instead)]) from error
        mode = RunMode.MULTIRUN if sweep else RunMode.RUN
        with translated(words), hydra_seam.LOCK:
            return self._loader.load_configuration(CONFIG, as_typed(words, sweep), mode)

    def jobs(self, master: DictConfig, words: list[str]) -> list[list[str]]:
        """The settings of each job of a sweep, in the order of Hydra's basic sweeper: the last one varies fastest.

        Raises:
            Refused: another sweeper or launcher than Hydra's basic ones, whose jobs are not known beforehand.
        """
        for name, node in (("sweeper", master.hydra.sweeper), ("launcher", master.hydra.launcher)):
            if not str(node._target_).endswith((".BasicSweeper", ".BasicLauncher")):
                value = f"hydra/{name}={str(node._target_).rsplit('.', 1)[-1]}"
                raise Refused([Problem(value, f"a sweep over warm ranks uses Hydra's basic {name}", "leave it out")])
        fixed = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
        own = [word for word in words if not word.startswith(("hydra.", "hydra/", "resume="))]
        values: dict[str, list[str]] = {}
        with translated(words), hydra_seam.LOCK:
            parser = OverridesParser.create(config_loader=self._loader)
            for override in parser.parse_overrides(as_typed([*fixed, *own], sweep=True)):
                key = override.get_key_element()
                if not override.is_sweep_override():
                    values[key] = [f"{key}={override.get_value_element_as_str()}"]
                elif override.is_discrete_sweep():
                    values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
                else:
                    rule, instead = "a sweep takes single values, not an interval", f"type {key}=VALUE,VALUE"
                    raise Refused([Problem(str(override.input_line), rule, instead)])
        words_of = [[unescaped(word) for word in found] for found in values.values()]
        return [list(job) for job in itertools.product(*words_of)]

    def job(self, master: DictConfig, words: list[str], number: int) -> DictConfig:
        """One job's configuration, as Hydra's own launcher would compose it."""
        with translated(words), hydra_seam.LOCK:
            composed = self._loader.load_sweep_config(master, words)
        with open_dict(composed):
            composed.hydra.job.id = composed.hydra.job.num = number
        return composed


def _own_folder(text: str) -> Path:
    """The folder of the user's own YAML files.

    Raises:
        Refused: it is none, or a file there has the name of one of conf/, which Hydra would take instead.
    """
    value = f"--config-dir {text}"
    try:
        folder = user_path(text)
        if not folder.is_dir():
            raise ValueError("not a folder")
        shared = [path for path in (*folder.glob("*.yaml"), *folder.glob("*/*.yaml")) if _in_conf(path, folder)]
    except (OSError, ValueError) as error:
        raise Refused([Problem(value, str(error), "give the folder of your YAML files")]) from error
    if shared:
        names = ", ".join(str(path.relative_to(folder)) for path in sorted(shared))
        rule = f"conf/ has a file of this name already: {names}"
        raise Refused([Problem(value, rule, "give yours a name of its own")])
    return folder


def _in_conf(path: Path, folder: Path) -> bool:
    """Whether conf/ has a file of the same name as one of the user's own folder, and is another folder."""
    twin = conf_dir() / path.relative_to(folder)
    return twin.exists() and not twin.samefile(path)


def to_config(composed: DictConfig) -> LaunchConfig:
    """The typed configuration, every interpolation resolved."""
    with translated():
        names = [field.name for field in dataclasses.fields(LaunchConfig)]
        config = LaunchConfig(
            **{name: _plain(composed[name]) for name in names if not OmegaConf.is_missing(composed, name)}
        )
    for name in PROMPTS:
        if OmegaConf.is_missing(composed, name):
            setattr(config, name, MISSING)  # three question marks, which OmegaConf reads as no value at all
    return config


def _plain(value: Any) -> Any:
    """A setting as its dataclass or plain value; composed from the schema, each node knows its type."""
    return OmegaConf.to_object(value) if OmegaConf.is_config(value) else value


@contextlib.contextmanager
def translated(words: Iterable[str] = ()) -> Iterator[None]:
    """Turn what Hydra, OmegaConf and YAML raise into Refused; `words` are those that were typed."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, OSError, *UNEXPECTED) as error:
        raise Refused([_problem(error, list(words))]) from error
    except RecursionError as error:
        rule = "values refer to each other in a circle, or are nested too deeply"
        raise Refused([Problem("configuration", rule, "type --help for what can be set")]) from error


def _problem(error: BaseException, words: list[str]) -> Problem:
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, OmegaConfBaseException):
        return _config_problem(cause, words)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        if option in error.options:  # which Hydra lists, and does not read
            rule, instead = "its file ends with .yml, and Hydra reads .yaml alone", f"rename it to {option}.yaml"
            return Problem(f"{group}={option}", rule, instead)
        near = (nearest(option, error.options, 1) or error.options)[0]
        rule = suggest.unknown_option(option, list(error.options))
        return Problem(f"{group}={option}", rule, f"type {group}={near}")
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark) is not None:
        file = "/".join(Path(mark.name).parts[-2:])  # group/option.yaml; the folders above name this machine's user
        instead = "indent with spaces" if "'\\t'" in str(error.problem) else "correct this line"
        return Problem(f"{file}: line {mark.line + 1}", f"not valid YAML: {error.problem}", instead)
    told = str(error).partition("Config search path:")[0]  # which names this machine's folders
    within = re.match(r"In '(.+?)': ", told)
    if within and isinstance(error.__context__, OmegaConfBaseException):
        return _in_file(f"{within[1]}.yaml", error.__context__)
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return Problem("configuration", " ".join(lines)[:400] or type(error).__name__, "type --help for what can be set")


def _in_file(file: str, error: OmegaConfBaseException) -> Problem:
    """A key of a YAML file that is no setting, or whose value is of the wrong type."""
    key = str(error.full_key or "")
    prefix, _, last = key.rpartition(".")
    if key in fields():
        return Problem(f"{file}: {last}", f"must be {suggest.kind(key)}", f"write {last}: {suggest.example(key)}")
    if "not in" not in str(error.msg):
        return Problem(f"{file}: {last}", str(error.msg or error).splitlines()[0], "type --help for what can be set")
    legal = [name.removeprefix(f"{prefix}.").partition(".")[0] for name in fields() if name.startswith(f"{prefix}.")]
    near = nearest(last, dict.fromkeys(legal))
    return Problem(f"{file}: {last}", "unknown setting", f"write {choices(near)}" if near else "leave it out")


def _config_problem(error: OmegaConfBaseException, words: list[str]) -> Problem:
    """A value of the wrong type, or a reference to nothing."""
    key, message = str(error.full_key or "configuration"), str(error.msg or error).splitlines()[0]
    word = next((word for word in reversed(words) if word.lstrip("+").partition("=")[0] == key), None)
    if "nterpolation" in message:
        told = _example(key) if key in fields() else r"type \${ for these two characters themselves"
        return Problem(word or key, message, told)
    if key in fields():
        value = message.split("'")[1] if "converted to" in message and "'" in message else ""
        return Problem(
            word or f"{key}={value}",
            f"must be {suggest.kind(key)}",
            _example(key, value or (word or "").partition("=")[2]),
        )
    if word is not None and any(name.startswith(f"{key}.") for name in fields()):
        names = [name for name in fields() if name.startswith(f"{key}.")]
        return Problem(word, f"{key} has settings of its own: {', '.join(names[:6])}", f"type {names[0]}=VALUE")
    return Problem(word or key, message, "type --help for the settings and their types")


def _example(key: str, value: str = "") -> str:
    return f"type {shlex.quote(f'{key}={suggest.example(key, value)}')}"
