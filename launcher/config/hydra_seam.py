"""All that this program does with Hydra's insides; the other modules know its public API only.

Hydra 1.3's public API composes through state of the whole process (`GlobalHydra`), makes the run directory and calls
the task in one go (`run_job`), and prints its errors itself. Here a configuration loader is made without the global
one, so that two threads can each have theirs, and the run directory's name and its `.hydra/` are separate steps, so
that a folder can be claimed before anything is written into it. Hydra is pinned to 1.3 in pyproject.toml, and
tests/launcher/config/test_hydra_seam.py names each private name that is used.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.utils import JobRuntime, setup_globals
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf._utils import get_yaml_loader

from launcher.config import yaml_files
from launcher.reading import UnreadableError
from launcher.records.run_dir import portable, portable_override

# Resolvers, plugins and HydraConfig belong to the process: one thread at a time composes or names a folder.
LOCK = threading.RLock()


def make_loader(conf: Path, own: Path | None, job_name: str) -> ConfigLoader:
    """A loader of the configurations in `conf`, and of those in the user's own folder that have other names."""
    with LOCK:
        setup_globals()  # the resolvers now:, hydra: and python_version:
        JobRuntime().set("name", job_name)
        search_path = create_automatic_config_search_path(None, None, str(conf))
        if own is not None:
            search_path.prepend("command-line", f"file://{own}", SearchPathQuery(provider="schema"))
        loader = ConfigLoaderImpl(config_search_path=search_path)
        for source in loader.get_sources():
            if source.scheme() == "file":
                _guard(source)
        return loader


def _guard(source: ConfigSource) -> None:
    """Have each file looked at before it is loaded."""
    load = source.load_config

    def checked(config_path: str) -> ConfigResult:
        name = config_path if config_path.endswith((".yaml", ".yml")) else f"{config_path}.yaml"
        try:
            text = yaml_files.check(Path(source.path, name))
            header = source._get_header_dict(text[:512])  # Hydra misses the first line behind a byte order mark
            with contextlib.suppress(yaml.YAMLError, UnicodeError):  # which Hydra tells with the file's name
                if (loader := fast_loader()) is not None:
                    data = yaml.load(text, Loader=loader)
                    config = OmegaConf.create({} if data is None else data)
                    return ConfigResult(source.provider, f"file://{source.path}", config, header)
            found = load(config_path)
            found.header |= header
            return found
        except UnreadableError as error:
            raise ConfigLoadError(f"{name} {error}") from error
        except yaml_files.UNEXPECTED as error:
            raise ConfigLoadError(f"{name} has a value that can't be read ({error})") from error

    source.load_config = checked  # type: ignore[method-assign]


@functools.cache
def fast_loader() -> Any:
    """OmegaConf's loader of YAML (a key twice is an error, a date is text) with libyaml's parser, 10 times as fast.

    None where PyYAML was built without libyaml.
    """
    if not yaml.__with_libyaml__:
        return None
    from yaml._yaml import CParser

    class Loader(CParser, get_yaml_loader()):  # type: ignore[misc]
        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            yaml.constructor.SafeConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    return Loader


def groups(loader: ConfigLoader) -> dict[str, list[str]]:
    """Every choice (`model`, `cp` ...) and its options.

    `ConfigLoader.get_group_options` says the same and copies the repository for each group: 75 ms instead of 10.
    """
    found = loader.repository  # type: ignore[attr-defined] # of ConfigLoaderImpl
    names = found.get_group_options("", ObjectType.GROUP)
    return {name: found.get_group_options(name, ObjectType.CONFIG) for name in sorted(names) if name != "hydra"}


def folder_name(composed: DictConfig, *settings: str) -> str:
    """A folder as the configuration names it, in one setting or in one below the other."""
    with LOCK:
        before = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(composed)  # what the resolver hydra: answers from
        try:
            return os.path.join(*(str(OmegaConf.select(composed, setting)) for setting in settings))
        finally:
            HydraConfig.instance().cfg = before


def put_into(composed: DictConfig, folder: Path) -> Path:
    """Note the run directory in `hydra.runtime.output_dir`, as Hydra does, and return it."""
    with read_write(composed.hydra.runtime), open_dict(composed.hydra.runtime):
        composed.hydra.runtime.output_dir = str(folder)
    return folder


def save(composed: DictConfig, folder: Path) -> None:
    """Write `.hydra/` into a run directory, as Hydra does: what was composed, and from which words.

    Other than Hydra it names no folder of this machine, nor what `hydra.job.env_set` gives variables.

    Raises:
        OSError: it cannot be written.
    """
    if composed.hydra.output_subdir is None:
        return
    files = {
        "config.yaml": _plain(OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])),
        "hydra.yaml": without_paths(OmegaConf.masked_copy(composed, ["hydra"])),
        "overrides.yaml": [portable_override(word) for word in composed.hydra.overrides.task],
    }
    place = folder / str(composed.hydra.output_subdir)
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name).write_text(OmegaConf.to_yaml(content), encoding="utf-8", errors="backslashreplace")


def without_paths(composed: DictConfig) -> dict[str, Any]:
    """A configuration as data that can be shared: without folders of this machine and values of its environment."""
    plain = _plain(composed)
    hydra = _plain_paths(plain["hydra"])
    hydra["job"]["env_set"] = dict.fromkeys(hydra["job"]["env_set"], "...")
    hydra["overrides"] = {kind: [_shared(word) for word in words] for kind, words in hydra["overrides"].items()}
    hydra["job"]["override_dirname"] = "..."  # the words once more
    return plain | {"hydra": hydra}


def _plain(composed: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(plain, dict)
    return portable({str(key): value for key, value in plain.items()})


def _plain_paths(value: Any) -> Any:
    """The same with the last part alone of every text that is an absolute path."""
    if isinstance(value, dict):
        return {key: _plain_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_paths(item) for item in value]
    if isinstance(value, str) and value.startswith(("/", "~", "file:")):
        return f".../{Path(value).name}"
    return value


def _shared(word: str) -> str:
    """A word of the command line that can be shared."""
    key, sign, value = word.partition("=")
    if not key.lstrip("+").startswith("hydra."):
        return portable_override(word)
    return key + sign + ("..." if "env_set" in key else str(_plain_paths(value.strip("'\""))))
