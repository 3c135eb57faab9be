"""What to type instead of words that name no setting, or that Hydra can't read."""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Iterator

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from attention_backends.plan import ENTRY_KEYS, KEYS
from launcher.config.names import DTYPES, ELSEWHERE, MEANT, NOT_NEEDED, NOT_OFFERED, SCHEDULERS
from launcher.config.paths import PATHS
from launcher.config.text import PROMPTS, UnaskedError, fields, is_text, quoted
from launcher.problems import Problem, choices, nearest

MAX_OPTIONS = 12  # that a refusal lists
MAX_WORDS = 1 << 15  # characters of all words; Hydra reads as many in a second, those beyond ASCII in two
SEARCHPATH = Problem("hydra.searchpath", "does not add a folder here", "type --config-dir DIR")
SIGNS = "()[]{},:=\\\"'"  # what Hydra's grammar reads for itself
EXAMPLES = {
    "model.transformers": "[transformer]",
    "model.sizes": "[1024x1024]",
    "model.cp_plan": "null",
    "height": "1000",
    "width": "1000",
    "guidance": "3.5",
    "runtime.devices": "[0,1]",
    "cp.shares": "[2,1]",
    "model.packages": "[ftfy]",
    "lora.scale": "0.8",
    "cache.ratios": "[1.0,1.02]",
    "model.caches": "[pab]",
    "model.compiles": "[full]",
    "model.mag_ratios": "[1.0,1.02]",
    "scheduler.options": "{solver_order: 3}",
    "cluster.srun_args": "[--exact]",
    "cluster.setup": "[module load cuda]",
    "cluster.additional_parameters": "{mem: 64G}",
    "lora.stack": "[{path: FILE, scale: 0.8}]",
}


def unknown(override: Override, word: str, groups: dict[str, list[str]]) -> Iterator[Problem]:
    """What is wrong with the key of a word, or with the option that it chooses."""
    key = override.key_or_group
    if key.split(".")[0].split("/")[0] in ("hydra", "local"):
        return
    if override.is_delete():
        yield Problem(word, "every setting is needed and can't be removed", f"type {key}=VALUE instead")
        return
    if key in groups:
        several = override.is_sweep_override()
        for option in override.sweep_string_iterator() if several else [str(override.value())]:
            if key == "model" and "/" in option:
                rule = "a folder or a repository, and model= takes the name of a model"
                instead = f"type {shlex.quote(f'model.path={option}')} beside its model=NAME, or --help for the names"
                yield Problem(f"{key}={option}", rule, instead)
            elif key == "scheduler" and option not in groups[key] and (meant := SCHEDULERS.get(option.lower())):
                yield Problem(f"{key}={option}", unknown_option(option, groups[key]), f"type {meant}")
            elif option not in groups[key] and (told := NOT_OFFERED.get(key, {}).get(option.lower())):
                yield Problem(f"{key}={option}", *told)
            elif option not in groups[key] and option not in ("null", "None"):
                best = (nearest(option, groups[key], 1) or groups[key])[0]
                yield Problem(f"{key}={option}", unknown_option(option, groups[key]), f"type {key}={best}")
        return
    legal = [*fields(), *groups]
    if key in legal:
        return
    last, value = key.split(".")[-1].lower(), word.partition("=")[2]
    if last in NOT_NEEDED:
        yield Problem(word, *NOT_NEEDED[last])
        return
    if (meant := _of_devices(last, value)) is not None:
        yield Problem(word, "unknown setting", f"type {meant}")
        return
    near = dict.fromkeys(_named(key, legal), value)
    if "scheduler" in near:
        fitting = value.lower() if value.lower() in groups["scheduler"] else "auto"
        meant = SCHEDULERS.get(value.lower(), f"scheduler={fitting}")
        yield Problem(word, "unknown setting", f"type {meant}")
        return
    if "runtime.dtype" in near:
        near["runtime.dtype"] = DTYPES.get(value.lower(), value)
    for name in near:
        near[name] = MEANT.get(name, {}).get(value.lower(), near[name])
        known = name == ELSEWHERE.get(last) or name.endswith(f".{last}")
        if name in fields() and known and kind(name) == "a list" and not value.startswith("["):
            near[name] = f"[{value}]"
    near = {name: item for name, item in near.items() if name in groups or _takes(name, item)}
    instead = choices(shlex.quote(f"{name}={item}") for name, item in near.items())
    yield Problem(word, "unknown setting", f"type {instead}" if near else "type --help for the list")


def unknown_option(option: str, options: list[str]) -> str:
    """That an option is none, and which there are; of many the nearest ones."""
    if len(options) <= MAX_OPTIONS:
        return f"unknown option; choose from {', '.join(options)}"
    near = nearest(option, options, 5) or options[:5]
    return f"unknown option; choose from {', '.join(near)} ... ({len(options)} in all: type --help)"


def _of_devices(last: str, value: str) -> str | None:
    """What to type for a GPU by its number, or for several: `device=cuda:1`, `gpus=0,1`."""
    if last in ("device", "devices", "gpu", "gpus", "gpu_ids", "cuda_visible_devices", "device_ids"):
        if match := re.fullmatch(r"(?:cuda:|gpu:)(\d+)|\[?(\d+(?:,\d+)+)\]?", value.replace(" ", "")):
            return shlex.quote(f"runtime.devices=[{match[1] or match[2]}]")
        if value.lower() in ("gpu", "cuda", "cpu"):
            return f"runtime={value.lower().replace('cuda', 'gpu')}"
    return None


def _takes(name: str, value: str) -> bool:
    """Whether a setting is of a kind that can have this value."""
    taken = {
        "a whole number": r"-?[\d_]+",
        "a number": r"[-+\d.eE]+",
        "true or false": r"(?i:true|false|yes|no|on|off)",
    }
    taken |= {"a list": r"\[.*\]", "a mapping": r"\{.*\}"}
    several = value.split(",") if "," in value and value[0] not in "[{" else [value]
    pattern = taken.get(kind(name))
    return pattern is None or all(re.fullmatch(pattern, one.strip()) for one in several)


def _named(key: str, legal: list[str]) -> list[str]:
    """The settings that `key` may mean, by their whole names: what is known elsewhere, a last part, what is alike."""
    last = key.split(".")[-1].lower()
    if last in ELSEWHERE:
        return [ELSEWHERE[last]]
    if tail := [name for name in legal if name.split(".")[-1] == last]:
        return tail  # as in `ring_degree=2`, which is what people type first
    if near := nearest(key, legal):
        return near
    parts = nearest(last, {name.split(".")[-1] for name in legal}, 1)
    return [name for name in legal if name.split(".")[-1] in parts]


def unreadable(word: str, error: HydraException) -> Problem:
    """A word that Hydra can't parse."""
    key, _, value = word.partition("=")
    if key != key.strip() and key.strip() in fields():
        typed = shlex.quote(f"{key.strip()}={value.strip()}")
        return Problem(word, "there are spaces around the =", f"type {typed}")
    reason = str(error).splitlines()[0] if str(error) else "unreadable"
    if isinstance(error, UnaskedError):
        return Problem(word, reason, "shorten it")
    if not value.startswith(("'", '"')) and (signs := [sign for sign in SIGNS if sign in value]):
        reason = f"{' '.join(signs)} must be quoted"
    instead = "type --help for the settings"
    if key in fields():
        instead = f"type {shlex.quote(f'{key}={example(key)}')}"
    elif key.startswith("hydra."):
        instead = f"quote it: {shlex.quote(f'{key}={quoted(value)}')}"
    return Problem(word, f"Hydra can't read it: {reason}", instead)


def dashed(words: list[str], groups: dict[str, list[str]]) -> Problem | None:
    """The first word as a setting, where it is one with dashes, as most other programs have it: `--height 512`."""
    name, sign, value = words[0].partition("=")
    key = name.lstrip("-").replace("-", "_")
    legal = [*fields(), *groups]
    if key.lower() in NOT_NEEDED:
        return Problem(words[0], *NOT_NEEDED[key.lower()])
    if len(name) < 4 or not (key in legal or key.lower() in ELSEWHERE or any(one.endswith(f".{key}") for one in legal)):
        return None
    follows = words[1] if len(words) > 1 and not words[1].startswith("--") else None
    setting, value = _named(key, legal)[0], value if sign else (follows or "VALUE")
    rule = "settings are typed without dashes, as key=value"
    return Problem(words[0], rule, f"type {shlex.quote(f'{setting}={value}')}")


def shell_variable(word: str) -> Iterator[Problem]:
    """A path with a variable that the shell has not filled in."""
    key, _, value = word.partition("=")
    for match in re.finditer(r"\$(?:(\w+)|\{(\w+)\})", value) if key.lstrip("+") in PATHS else ():
        known = os.environ.get(match[1] or match[2])
        if known is not None and not os.path.lexists(value):
            rule = f"holds {match.group()} as it stands: single quotes keep the shell from filling it in"
            yield Problem(word, rule, f"type {shlex.quote(f'{key}={value.replace(match.group(), known)}')}")
            return


def no_value(word: str) -> Iterator[Problem]:
    """Three question marks, with which OmegaConf says that there is no value: what was typed would not act."""
    key, sign, value = word.partition("=")
    name = key.lstrip("+")
    if sign and "???" in value.split(",") and name in fields() and name not in PROMPTS:
        yield Problem(word, "three question marks mean that there is no value", f"leave it out, or type {key}=VALUE")


def without_sign(words: list[str], groups: dict[str, list[str]]) -> Iterator[Problem]:
    """Words that are no key=value: the rest of a text that was not quoted, an option without its choice, or a typo."""
    text, rest = "", []
    for word in [*words, "="]:
        if "=" not in word and not word.startswith("~"):
            if text:
                rest.append(word)
            else:
                yield _without_sign(word, groups)
            continue
        if rest:
            whole = shlex.quote(" ".join([text, *rest]))
            yield Problem(" ".join(rest), "expected key=value; text with spaces must be quoted", f"type {whole}")
        text, rest = word if is_text(word.partition("=")[0].lstrip("+")) else "", []


def _without_sign(word: str, groups: dict[str, list[str]]) -> Problem:
    rule = "expected key=value"
    if word in ("help", "version"):
        return Problem(word, rule, f"type --{word}")
    if chosen := [group for group, options in groups.items() if word in options]:
        return Problem(word, rule, f"type {choices(f'{group}={word}' for group in chosen)}")
    near = nearest(word.lstrip("-"), ["height", "width", "model", "cp", "prompt", "seed", "steps"], 1)
    return Problem(word, rule, f"type {near[0]}=VALUE" if near else "type --help for the list")


def elsewhere(word: str, sweep: bool) -> Iterator[Problem]:
    """Folders of Hydra's that the other kind of run has."""
    key, _, value = word.lstrip("+").partition("=")
    if key == "hydra/launcher" and value in ("submitit_slurm", "submitit_local"):
        yield Problem(word, "Slurm is a cluster here, with the same keys", "type cluster=slurm cluster.nodes=2 ...")
    if key.startswith("hydra.launcher.") and f"cluster.{key[15:]}" in fields():
        yield Problem(word, "belongs to cluster=slurm here", f"type {shlex.quote(f'cluster.{key[15:]}={value}')}")
    if sweep and key == "hydra.run.dir":
        yield Problem(word, "is the folder of a single run", f"type {shlex.quote(f'hydra.sweep.dir={value}')}")
    if not sweep and key.startswith("hydra.sweep."):
        yield Problem(word, "works on sweeps only", "type -m for a sweep, or leave it out")


def carriage_return(word: str) -> Problem:
    """A word from a script with Windows line ends, which the shell passes on."""
    rule = "ends in a carriage return, as in a script with Windows line ends"
    convert = "convert the script: sed -i 's/\\r$//' FILE"
    return Problem(word, rule, f"type {shlex.quote(word.rstrip(chr(13)))}, or {convert}")


def into_plan(word: str) -> Iterator[Problem]:
    """A word that reaches into a model's plan, whose keys are paths with dots: where one ends Hydra can't know."""
    key, _, value = word.partition("=")
    if not key.lstrip("+~").startswith("model.cp_plan."):
        return
    kind, *rest = key.split(".")[2:]
    near = (nearest(kind, KEYS, 1) or KEYS[:1])[0]
    leaf = [rest.pop()] if rest and rest[-1] in ENTRY_KEYS else []
    keys = [rest.pop(), *leaf] if near == "split" and leaf and rest else leaf
    keys = [near, ".".join(rest), *keys] if rest else [near, *keys]
    told = shlex.quote("model.cp_plan={" + ": {".join(keys) + f": {value or 'VALUE'}" + "}" * len(keys))
    if near == "split" and leaf and not rest:  # of the model itself, whose path is empty: Hydra reads no such key
        told = "--config-dir FOLDER model=NAME, with the plan in FOLDER/model/NAME.yaml"
    yield Problem(word, "a plan is one setting, written in braces and merged into the model's own", f"type {told}")


def too_long(words: list[str]) -> Iterator[Problem]:
    """More text than Hydra reads in a moment, which is told before it tries."""
    if sum(map(len, words)) <= MAX_WORDS:
        return
    longest = max(words, key=len)
    key = longest.partition("=")[0][:40]
    rule = f"has {len(longest)} characters; a command line has {MAX_WORDS} at most"
    text = key.lstrip("+") == "prompt"
    yield Problem(f"{key}=...", rule, "put it into a file and type prompt_file=FILE" if text else "shorten it")


def several(override: Override, word: str) -> Problem:
    """Several values where one is needed."""
    key, _, value = word.partition("=")
    instead = "type -m for a sweep"
    if is_text(override.key_or_group):
        instead += f", or quote it: {shlex.quote(f'{key}={quoted(value)}')}"
    return Problem(word, "a single run takes one value", instead)


def kind(key: str) -> str:
    """What a setting takes, in words."""
    annotation = str(fields()[key].type).removeprefix("Optional[").removesuffix("]")
    kinds = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    kinds["Any"] = "a number or a list"
    return kinds.get(annotation, "a list" if annotation.startswith("list") else "a mapping")


def example(key: str, value: str = "") -> str:
    """A value that a setting takes: the whole number that a wrong one starts with, or any."""
    match = re.match(r"\s*\d+(\.\d+)?([eE]\+?\d\b)?", value) if kind(key) == "a whole number" else None
    if match and (meant := math.ceil(float(match.group()))):
        return str(meant)
    defaults = {"a list": "[]", "a mapping": "{}", "true or false": "true", "text": "TEXT"}
    return EXAMPLES.get(key) or defaults.get(kind(key), "2")
