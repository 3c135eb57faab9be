"""A recipe to the words that ask for the same again. It may be a stranger's, so nothing in it is trusted.

What is taken from it are settings that a user could type, each as a value and never as a reference; a model's facts and
its plan come from this installation's conf/model. What names a file of the machine that made the picture, what this
program does not know, and what no value can be is refused by name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.config.compose import Composer, to_config
from launcher.config.paths import PATHS, PICTURES, user_path
from launcher.config.schema import LaunchConfig
from launcher.config.text import fields, quoted
from launcher.families.references import reference
from launcher.problems import Problem, Refused
from launcher.records.files import sha256
from launcher.records.record import Config, Recipe, Record, read_record
from launcher.records.run_dir import INPUTS
from launcher.request.pictures import listed
from launcher.running.which_model import DEFAULT
from launcher.wording import shorten

HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # a repository's name
PLAIN = re.compile(r"[A-Za-z_][\w./-]*")  # a text that Hydra reads as it stands, but for these
WEIGHTS = ("model.path", "model.transformer", "model.vae")  # which may each be a single file
MOST_KEPT = 64  # files of a run's folder that are looked at
NO_TEXT = ("null", "true", "false", "inf", "nan")
# Settings that have no say in what is drawn, or that a run of today decides.
PASSED_OVER = (
    "prompt_file",
    "check",
    "fail_fast",
    "data",
    "objective",
    "memory",
    "allow_refused",
    "resume",
    "output.dir",
    "runtime.devices",
    "runtime.timeout",
    "runtime.stall_timeout",
    "runtime.start_timeout",
    "machine.",
    "cluster.",
    "tracker.",
)


@dataclass(frozen=True)
class Original:
    """What is to be made again.

    Args:
        path: of the picture, or of the run's folder. pictures: the files to compare with, in the order they were made.
        prompts: all of them; `config` has one at most.
        recorded: versions, environment, weights ... by name, as far as they are known.
        together: pictures of the pipeline's call that a picture was drawn in; here it is drawn alone.
    """

    path: Path
    config: Config
    prompts: tuple[str, ...]
    pictures: tuple[Path, ...]
    digests: tuple[str, ...]
    recorded: dict[str, dict[str, str]]
    together: int = 1


def original(path: Path) -> Original:
    """Read a picture, a run's folder, or its run.json.

    Raises:
        Refused: it is none of them, or can't be read.
    """
    value = str(path)
    try:
        if path.is_dir() or path.name == "run.json":
            folder = path if path.is_dir() else path.parent
            if (folder / "multirun.yaml").is_file() and not (folder / "run.json").is_file():
                raise Refused([Problem(value, "the folder of a sweep", f"give one of its jobs: {path / '0'}")])
            return _of_record(folder, read_record(folder / "run.json"))
        from launcher.records.picture import read_recipe  # Pillow, which the help page does not wait for

        return _of_recipe(path, read_recipe(path))
    except ValueError as error:
        told = shorten(str(error), 300)
        rule = told.removeprefix(path.name).strip() or "can't be read"
        raise Refused([Problem(value, rule, "give a picture that carries its recipe, or a run's folder")]) from error


def _of_record(folder: Path, record: Record) -> Original:
    pictures = tuple(folder / made.file for made in record.files)
    digests = tuple(made.sha256 for made in record.files)
    known = recorded(record) | ({"environment": record.environment} if record.environment else {})
    return Original(folder, record.config, record.prompts, pictures, digests, known)


def _of_recipe(path: Path, recipe: Recipe) -> Original:
    prompt = recipe.config.get("prompt")
    if not isinstance(prompt, str):
        raise ValueError("has no prompt in its recipe")
    return Original(path, recipe.config, (prompt,), (path,), ("",), recorded(recipe), recipe.together)


def recorded(told: Recipe | Record) -> dict[str, dict[str, str]]:
    """What a record, or a recipe, tells of where its pictures came from, as far as both tell it."""
    found = {"versions": told.versions, "inputs": told.inputs}
    if told.weights is not None:
        found["weights"] = told.weights.files | ({"commit": told.weights.commit} if told.weights.commit else {})
    if told.scheduler is not None:
        found["scheduler"] = {"name": told.scheduler if isinstance(told.scheduler, str) else told.scheduler.name}
    return found


def kept(source: Original) -> dict[str, str]:
    """The files that a recipe's settings name, by setting: those that are here, by the SHA-256 that it tells of them.

    A run keeps the pictures that it started from in its own folder; other files may be where they were named, below the
    current one.
    """
    folder = source.path if source.path.is_dir() else source.path.parent
    digests, named, found = source.recorded.get("inputs", {}), dict(flat(source.config)), {}
    for setting in (*PICTURES, "lora.path", *WEIGHTS):
        if not isinstance(value := named.get(setting), str):
            continue
        items = listed(value)
        names = [setting] if len(items) == 1 else [f"{setting}[{number}]" for number in range(len(items))]
        paths = [_found(digests.get(name), item, folder) for name, item in zip(names, items, strict=True)]
        if len(items) == 1 and paths[0] is not None:
            found[setting] = paths[0]
        elif all(path is not None and "," not in path for path in paths):
            found[setting] = f"[{','.join(map(str, paths))}]"
    return found


def _found(digest: str | None, named: str, folder: Path) -> str | None:
    """The path of a file with this SHA-256: in a run's folder, or where it was named."""
    if digest is None:
        return None
    places = list(itertools.islice((folder / INPUTS).glob("*/*"), MOST_KEPT))
    with contextlib.suppress(ValueError, OSError):  # no file has this name, or the current folder is gone
        if ".." not in Path(named).parts and not named.startswith(("/", "~")):
            places.append(user_path(named))
    for place in places:
        with contextlib.suppress(ValueError, OSError):
            if place.is_file() and sha256(place) == digest:
                return str(place.absolute())
    return None


def flat(config: Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of a configuration by its dotted name. What is a mapping by itself stays whole."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in fields():
            yield from flat(value, f"{name}.")
        else:
            yield name, value


def words(
    config: Config, overrides: Sequence[str], composer: Composer, kept: Mapping[str, str] | None = None
) -> list[str]:
    """The words that ask for a recipe again but for its prompts, with the user's overrides behind them.

    Args:
        kept: files that stand in for those that settings name, by setting.

    Raises:
        Refused: with everything in it that can't be taken.
    """
    changed = [word.partition("=")[0].lstrip("+") for word in overrides]
    found: list[str] = []
    problems: list[Problem] = []
    facts = [name for name, field in fields().items() if field.metadata.get("fact") and name != "model.name"]
    own = dict(flat(config)).get("model.path", "bundled")
    for name, value in flat(config):
        if name in facts or name == "prompt" or name.startswith(PASSED_OVER):
            continue
        if name not in fields():
            problems.append(Problem(f"recipe: {shorten(name, 80)}", "unknown setting", "nothing was run"))
        elif replaced(name, changed, overrides) or (isinstance(value, list) and of_other_ranks(name, changed)):
            continue
        elif name == "model.name":
            problems += _model(value, composer.groups["model"])
            # Else no model was named, and what is in model.path says which: a folder or repository that the user names.
            if value != DEFAULT or own == "bundled" or "model.path" not in changed:
                found.insert(0, f"model={value}")
        elif kept and name in kept:
            found.append(f"{name}={_word(kept[name])}")
        elif flaw := _flaw(name, value):
            problems.append(flaw)
        else:
            found.append(f"{name}={_word(value)}")
    if problems:
        raise Refused(problems)
    return [*found, *overrides]


def replaced(name: str, changed: list[str], overrides: Sequence[str]) -> bool:
    """Whether the user's own words decide a setting: by its name, by its choice, or by what it follows from."""
    group, _, _ = name.partition(".")
    if name in changed or (group in changed and group != name) or (name == "model.name" and "model" in changed):
        return True
    degrees = ("cp.ring_degree", "cp.ulysses_degree")
    if name in (*degrees, "runtime.processes", "runtime.weights") and "cp=none" in overrides:
        return True
    return (name == "runtime.processes" and any(degree in changed for degree in degrees)) or (
        name in degrees and "runtime.processes" in changed
    )


def of_other_ranks(name: str, changed: list[str]) -> bool:
    """Whether a setting lists something for each rank, and the user's own words change how many there are."""
    how_many = ("cp", "cp.ring_degree", "cp.ulysses_degree", "cp.cfg_degree", "runtime.processes")
    return name in ("cp.shares", "runtime.threads") and any(word in changed for word in how_many)


def _model(name: object, known: list[str]) -> Iterator[Problem]:
    if name not in known:
        value = f"recipe: model={shorten(str(name), 80)}"
        yield Problem(value, "conf/model has no such model", "add its file with --config-dir DIR, or type model=NAME")


def _flaw(name: str, value: Any) -> Problem | None:
    """Why a value can't be taken from a recipe."""
    told = f"recipe: {name}={shorten(str(value), 80)}"
    if name == "scheduler.options" and isinstance(value, dict):
        value = [*value, *value.values()]
    if not isinstance(value, (str, int, float, bool, list, type(None))) or not _plain(value):
        return Problem(told, "not a value that this setting takes", "nothing was run")
    if name not in PATHS or value is None:
        return None
    named = name in ("model.path", "model.base")
    part = reference(str(value)) if name in WEIGHTS else None
    if part is not None and (part.is_file or name != "model.path"):
        return None
    if named and (value == "bundled" or (HUB.fullmatch(str(value)) and not Path(str(value)).exists())):
        return None
    several = str(value).count(",") + 1 if str(value).startswith("[") else 0
    file = f"[{','.join(['FILE'] * several)}]" if several else "FILE"
    if name in (*PICTURES, "lora.path") or (name in WEIGHTS and str(value).endswith((".safetensors", ".gguf"))):
        where = "in the run's folder, nor where it was named" if name in PICTURES else "where it was named"
        return Problem(told, f"no file with the recorded SHA-256 is {where}", f"type {name}={file}")
    kind = "FOLDER" if named else file
    return Problem(told, "names a file of another machine, which is not taken from a recipe", f"type {name}={kind}")


def _plain(value: Any) -> bool:
    return all(isinstance(item, (str, int, float)) for item in value) if isinstance(value, list) else True


def text(name: str, value: str) -> str:
    """The word that gives a setting this text, whatever it holds."""
    return f"{name}={quoted(value)}"


def _word(value: Any) -> str:
    """A value as Hydra reads it back; a text is never a reference."""
    if isinstance(value, list):
        return f"[{','.join(map(_word, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_word(item)}" for key, item in value.items() if PLAIN.fullmatch(key)) + "}"
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) and value.lower() not in NO_TEXT else quoted(value)
    return json.dumps(value)


def strangers(
    config: LaunchConfig, overrides: Sequence[str], composer: Composer, here: Collection[str] = ()
) -> list[str]:
    """What would be fetched that neither the model's file nor the user's own words name, nor is here."""
    typed = [word.partition("=")[0].lstrip("+") for word in overrides]
    known = to_config(composer.compose([f"model={config.model.name}"])).model
    keys = ("path", "base", "revision", "transformer", "vae")
    found = {f"model.{key}": (getattr(config.model, key), getattr(known, key)) for key in keys}
    return [
        f"{name}={now}"
        for name, (now, usual) in found.items()
        if now not in (None, usual, "bundled", *here) and name not in typed
    ]


def facts_that_differ(config: Config, now: LaunchConfig) -> list[str]:
    """A model's facts in a recipe that are others in this installation, whose are used."""
    here = dict(flat(dataclasses.asdict(now)))
    facts = [name for name, field in fields().items() if field.metadata.get("fact") and name.startswith("model.")]
    then = dict(flat(config))
    return [name for name in facts if name in then and name in here and then[name] != here[name]]
