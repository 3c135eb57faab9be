"""Where a model's files are, and which of them are the weights of a part. Answered without torch."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.config.model_schema import ModelConfig
from launcher.config.paths import user_path
from launcher.families.safetensors import read_header
from launcher.problems import Problem
from launcher.reading import MAX_JSON, UnreadableError, read_json_object, read_text

BUNDLED = Path(__file__).parent.parent / "flux_tiny" / "pipeline"
HERE = "or type model=flux_tiny"
FOLDER = f"give the folder of a diffusers pipeline, one with a model_index.json, {HERE}"
BASES = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}  # names of weight files, by library
DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # of the format, as torch calls them
PICKLES = (".bin", ".pt", ".ckpt", ".pth", ".pkl")
VARIANT = re.compile(r"[A-Za-z0-9_]{1,32}")
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+", re.ASCII)


def home(model: ModelConfig) -> str:
    """What names the pipeline's folder: `model.path`, or `model.base` where that is a single file."""
    return model.path if model.base is None else model.base


def as_typed(model: ModelConfig) -> str:
    """The setting that names it, with its value."""
    return f"model.{'path' if model.base is None else 'base'}={home(model)}"


def location(model: ModelConfig) -> str:
    """What `from_pretrained` is given: the bundled folder, a local folder, or a hub repository's name."""
    if home(model) == "bundled":
        return str(BUNDLED)
    return home(model) if is_hub(model) else location_of(home(model))


def not_a_folder(path: str) -> tuple[str, str]:
    """Why a model.path that is neither a folder nor the name of a repository is none, and what was meant, perhaps."""
    address = re.fullmatch(r"(?:https?://|hf://|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)(.*)", path)
    name = re.match(r"(?:[\w.-]+\.(?:co|com|ai|org)/)?([\w.-]+/[\w.-]+)", address[1]) if address else None
    if address and name and ("huggingface.co/" in path or "hf.co/" in path or path.startswith("hf://")):
        return "is an address; a repository of the hub is named without it", f"type model.path={name[1]}"
    if address:
        return "is an address, and models are read from folders or the hub alone", f"fetch it, and {FOLDER}"
    here = Path(location_of(path))
    if here.is_file():
        folder = next((each for each in here.parents[:2] if (each / "model_index.json").is_file()), None)
        meant = f"type {shlex.quote(f'model.path={folder}')}" if folder else FOLDER
        if folder is None and here.suffix == ".safetensors":
            meant = f"type {shlex.quote(f'model.path={path}')} model.base=FOLDER, with the folder of such a pipeline"
        return "is a file, not a folder with a pipeline's parts", meant
    if re.fullmatch(r"[\w.-]+/[\w.-]+/+", path):
        rule = "no such folder; a repository of the hub is named without a slash at the end"
        return rule, f"type model.path={path.rstrip('/')}"
    return "no such folder, and not the name of a hub repository (owner/name)", FOLDER


def location_of(path: str) -> str:
    """A local path as it is used here."""
    with contextlib.suppress(ValueError):  # no home can have this name
        return str(user_path(path))
    return path


def is_hub(model: ModelConfig) -> bool:
    """True for the form `owner/name` that is no folder here."""
    path = home(model)
    return REPOSITORY.fullmatch(path) is not None and not Path(path).exists()


def folder(model: ModelConfig) -> Path | None:
    """Where the model's files are: a local folder, or what the hub's cache holds; None where they are not here."""
    if not is_hub(model):
        return Path(location(model))
    found = snapshot(home(model), model.revision)
    return found if (found / "model_index.json").is_file() else None


def snapshot(repository: str, revision: str | None = None) -> Path:
    """Where the hub's cache keeps a repository's files, if it has them."""
    # huggingface_hub's own rules for where things are; its constants import in milliseconds.
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    revision = revision or "main"
    with contextlib.suppress(UnreadableError):  # a commit has no such file
        revision = read_text(cache / "refs" / revision, 256).strip()
    return cache / "snapshots" / revision


def revision_problems(model: ModelConfig) -> Iterator[Problem]:
    """A revision is a name within a hub repository, on any machine."""
    value, instead = f"model.revision={model.revision}", "leave it out: a repository's own default is used"
    if model.revision is None:
        return
    if not is_hub(model):
        yield Problem(value, f"{as_typed(model)} is not a hub repository (owner/name)", instead)
    elif not re.fullmatch(r"[\w.+-][\w./+-]*", model.revision) or ".." in model.revision:
        yield Problem(value, "not the name of a branch, tag or commit", instead)


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of one part, in one variant.

    Args:
        files: those that are there and whole. missing: those that an index names and that are not there.
        flaws: what is wrong with the others, each the end of a sentence that starts with the folder.
        parameters: numbers in `files`. shapes: of the tensors in them. dtype: of all of them, or "".
    """

    files: tuple[Path, ...]
    missing: tuple[str, ...]
    flaws: tuple[str, ...]
    parameters: int
    shapes: dict[str, tuple[int, ...]]
    dtype: str


def variants(part: Path, base: str) -> set[str]:
    """The variants that a part's folder has weights of: "" for plain ones, "fp16" for `model.fp16.safetensors`."""
    pattern = re.compile(rf"{base}(?:\.(?P<a>\w+))?\.safetensors|{base}\.safetensors\.index(?:\.(?P<b>\w+))?\.json")
    found = (pattern.fullmatch(name) for name in _names(part))
    return {match["a"] or match["b"] or "" for match in found if match}


def weight_files(part: Path, base: str, variant: str) -> WeightFiles:
    """The files of a variant: one, or the shards that its index names."""
    between = f".{variant}" if variant else ""
    names = [f"{base}{between}.safetensors"] if (part / f"{base}{between}.safetensors").exists() else []
    shards: dict[str, set[str]] = {}
    flaws: list[str] = []
    index = f"{base}.safetensors.index{between}.json"
    if (part / index).exists():
        try:
            for tensor, shard in _weight_map(part / index).items():
                shards.setdefault(shard, set()).add(tensor)
        except UnreadableError as error:
            flaws.append(f"{index} {error}")
    if not names and not shards and not flaws:
        names = [f"{base}{between}.safetensors"]  # a link to nothing, as of a cache whose blob was removed
    files, missing, parameters = [], [], 0
    shapes: dict[str, tuple[int, ...]] = {}
    stored: set[str] = set()
    for name in dict.fromkeys([*names, *sorted(shards)]):
        if not (part / name).exists():
            missing.append(name)
            continue
        try:
            header = read_header(part / name)
        except UnreadableError as error:
            flaws.append(f"{name} {error}")
            continue
        if absent := sorted(shards.get(name, set()) - set(header)):
            flaws.append(f"{name} lacks {absent[0]}, which {index} places there")
        files.append(part / name)
        parameters += sum(tensor.elements for tensor in header.values())
        shapes |= {name: tensor.shape for name, tensor in header.items()}
        stored |= {tensor.dtype for tensor in header.values()}
    dtype = DTYPES.get(stored.pop(), "") if len(stored) == 1 else ""
    return WeightFiles(tuple(files), tuple(missing), tuple(flaws), parameters, shapes, dtype)


def _weight_map(path: Path) -> dict[str, str]:
    found = read_json_object(path, 4 * MAX_JSON).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise UnreadableError("has no weight_map")
    for shard in found.values():
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise UnreadableError(f"names {str(shard)[:60]!r}, not a .safetensors file beside it")
    return found


def pickles(part: Path) -> list[str]:
    """Names of files in formats that can run code when they are read."""
    return sorted(name for name in _names(part) if name.endswith(PICKLES))


def _names(part: Path) -> list[str]:
    try:
        return os.listdir(part)
    except (OSError, ValueError):
        return []
