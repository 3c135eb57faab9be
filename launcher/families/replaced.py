"""Parts that are given in place of a pipeline's own: `model.transformer=` and `model.vae=`, looked at by headers."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.config.model_schema import ModelConfig
from launcher.config.paths import is_utf8, user_path
from launcher.families import gguf, safetensors
from launcher.families.hub import answer_flaw, offline_flaw
from launcher.families.parts import read_index
from launcher.families.references import TYPED, Reference, reference
from launcher.families.shapes import misfits
from launcher.families.weights import BASES, folder, variants, weight_files
from launcher.problems import Problem
from launcher.reading import UnreadableError, read_json_object

PARTS = ("transformer", "vae")
BASE = BASES["diffusers"]
# How the names of tensors begin in a single file that holds more than a transformer.
VAES = ("vae.", "first_stage_model.")
ENCODERS = ("text_encoders.", "cond_stage_model.", "conditioner.", "text_encoder.", "text_encoder_2.")
# What the rest of a pipeline, and the facts of its model, count on: sizes of latents, of text and of heads.
SAME = (
    "in_channels", "out_channels", "latent_channels", "z_dim", "block_out_channels", "num_attention_heads",
    "attention_head_dim", "num_layers", "num_single_layers", "joint_attention_dim", "pooled_projection_dim", "text_dim",
    "caption_channels", "guidance_embeds", "patch_size", "spatial_compression_ratio", "temporal_compression_ratio",
    "scale_factor_spatial", "scale_factor_temporal",
)  # fmt: skip


def given(model: ModelConfig) -> dict[str, str]:
    """What is given, by the part that it takes the place of: a single file may hold several."""
    single = {} if model.base is None else dict.fromkeys(held(model.path), model.path)
    return single | {name: path for name in PARTS if (path := getattr(model, name)) is not None}


def setting(model: ModelConfig, name: str) -> str:
    """The setting that gives a part."""
    return f"model.{name}" if getattr(model, name) is not None else "model.path"


def held(text: str) -> list[str]:
    """The parts that a single file holds, by the names of its tensors; a transformer where they say nothing."""
    found = set(_prefixes(text))
    return ["transformer", "vae"] if found & set(VAES) else ["transformer"]


def unread(model: ModelConfig) -> str | None:
    """What of a single file is not read, in words."""
    if model.base is None or not (found := sorted(set(_prefixes(model.path)) & set(ENCODERS))):
        return None
    return f"the text encoders in {Path(model.path).name} ({found[0]}...) are not read: those of model.base are"


def _prefixes(text: str) -> Iterator[str]:
    try:
        yield from (name.partition(".")[0] + "." for name in safetensors.read_header(user_path(text)))
    except (UnreadableError, OSError, ValueError, RuntimeError):  # told as a flaw
        return


def place(text: str) -> Path:
    """Where a part is, or will be once it was fetched from the hub."""
    found = reference(text)
    return user_path(text) if found is None else found.path


def absent(model: ModelConfig) -> dict[str, Reference]:
    """Parts that have to be fetched from the hub, by name."""
    found = {name: reference(text) for name, text in given(model).items() if setting(model, name) != "model.path"}
    return {name: each for name, each in found.items() if each is not None and not each.whole}


def files(text: str) -> list[Path]:
    """The files that a part is read from: itself, or those in a folder; none of what has to be fetched."""
    found, path = reference(text), place(text)
    if found is not None and not found.whole:
        return []
    if not path.is_dir():
        return [path]
    names = sorted(variants(path, BASE)) or [""]
    return list(weight_files(path, BASE, names[0]).files)


def part_problems(model: ModelConfig) -> Iterator[Problem]:
    """Why a part that is given can't be used."""
    if model.base is not None and model.transformer is not None:
        what = f"model.path={model.path} is a single file, which has the transformer"
        yield Problem(f"model.transformer={model.transformer}", what, "leave one of them out")
    named = model.path == "bundled" or ((hub := reference(model.path)) is not None and not hub.inside)
    if model.base is not None and named:
        what = f"is what a single file lacks, and model.path={model.path} is a whole pipeline"
        yield Problem(f"model.base={model.base}", what, "leave it out, or type model.path=FILE.safetensors")
        return
    told: set[str] = set()
    for name, text in given(model).items():
        key = setting(model, name)
        flaw = next(_flaws(model, name, text), None)
        if key == "model.path" and user_path(text).is_dir():
            flaw = f"is a folder, and model.base={model.base} goes with a single .safetensors file"
        if name in absent(model):
            flaw = offline_flaw()
        if flaw is None or key in told:
            continue
        told.add(key)
        or_gguf = " or .gguf" if name == "transformer" else ""
        instead = (
            f"give a .safetensors{or_gguf} file, or the folder of a diffusers {name}, here or on the hub ({TYPED})"
        )
        yield Problem(f"{key}={text}", flaw, "give a .safetensors file" if key == "model.path" else instead)


def answer_problems(model: ModelConfig, endpoint: str) -> Iterator[Problem]:
    """Parts that are not here come from the hub: it must answer, have them, and let this user in."""
    for name, wanted in absent(model).items():
        value = f"model.{name}={getattr(model, name)}"
        if flaw := answer_flaw(endpoint, wanted.repository, wanted.revision, wanted.first):
            also = "" if wanted.inside else f", or its folder: {value}/{name}"
            yield Problem(value, flaw, f"check the spelling{also}")


def pinned(model: ModelConfig) -> dict[str, str]:
    """What names the parts that are read from the hub's cache, with the commit that is read."""
    found = {name: reference(text) for name in PARTS if (text := getattr(model, name)) is not None}
    return {name: each.pinned for name, each in found.items() if each is not None}


def _flaws(model: ModelConfig, name: str, text: str) -> Iterator[str]:
    try:
        path = place(text)
        there = path.exists()
    except (OSError, ValueError, RuntimeError):
        there = False
    if not there:
        yield "no such file or folder on this machine, nor a name on the hub"
        return
    if not is_utf8(path):
        yield "a name that is not UTF-8 text"
        return
    kind, own = _own(model, name)
    if path.is_dir():
        yield from _folder_flaws(path, name, kind, own)
    elif path.suffix == ".gguf":
        yield from _gguf_flaws(model, path, name, kind, own)
    elif path.suffix != ".safetensors":
        yield "not a .safetensors file; other formats can run code when they are read, or need packages of their own"
    elif flaw := safetensors.flaw(path):
        yield flaw
    elif kind and kind not in single_files():
        yield f"diffusers reads no {kind} from a single file"
    elif own:
        # A VAE of other programs counts its blocks in another way, under a prefix of theirs.
        header = safetensors.read_header(path)
        shapes = {key: tensor.shape for key, tensor in header.items() if not key.startswith((*VAES, *ENCODERS))}
        what = "model.path" if model.base is None else "model.base"
        yield from (f"does not fit {what}: its {name}/config.json {each}" for each in misfits(kind, own, shapes))


def _gguf_flaws(model: ModelConfig, path: Path, name: str, kind: str, own: Mapping[str, Any]) -> Iterator[str]:
    if name != "transformer" or setting(model, name) == "model.path":
        yield f"a GGUF file takes the place of a transformer: model.transformer={path.name}"
        return
    try:
        wrong = gguf.flaw(path, kind)
        shapes = gguf.read_header(path).shapes
    except UnreadableError as error:
        yield str(error)
        return
    if wrong is not None:
        yield wrong
    elif kind and kind not in single_files():
        yield f"diffusers reads no {kind} from a single file"
    yield from (f"does not fit model.path: its {name}/config.json {each}" for each in misfits(kind, own, shapes))


def quantised(model: ModelConfig) -> int | None:
    """Bytes of the transformer's weights where they stay quantised, as in a GGUF file that is here; else None."""
    if model.transformer is None or not model.transformer.endswith(".gguf"):
        return None
    try:
        return gguf.read_header(place(model.transformer)).bytes
    except (UnreadableError, OSError, ValueError, RuntimeError):  # told as a flaw, or not here yet
        return None


def _folder_flaws(path: Path, name: str, kind: str, own: Mapping[str, Any]) -> Iterator[str]:
    try:
        config = read_json_object(path / "config.json")
    except UnreadableError as error:
        within = (path / name / "config.json").is_file()
        yield f"its config.json {error}" + (f"; it has a folder {name}, which is one" if within else "")
        return
    if kind and config.get("_class_name") != kind:
        yield f"is a {str(config.get('_class_name'))[:60]}, and model.path has a {kind}"
    for key in SAME:
        if key in config and key in own and config[key] != own[key]:
            yield f"its config.json says {key}={config[key]}, and model.path's {name} has {own[key]}"
    found = sorted(variants(path, BASE))
    if not found:
        yield "has no .safetensors file with weights"
        return
    weights = weight_files(path, BASE, found[0])
    yield from (f"{file} is missing" for file in weights.missing)
    yield from weights.flaws
    if not weights.missing and not weights.flaws:
        yield from (f"its config.json {each}" for each in misfits(kind, config, weights.shapes))


def _own(model: ModelConfig, name: str) -> tuple[str, Mapping[str, Any]]:
    """The class and the configuration of the pipeline's own part, as far as its files are here."""
    here = folder(model)
    try:
        parts = [] if here is None else read_index(here)[1]
        kind = next((part.kind for part in parts if part.name == name), "")
        return kind, read_json_object(here / name / "config.json") if here is not None and kind else {}
    except UnreadableError:  # told by whoever looks at the checkpoint
        return "", {}


@functools.cache
def single_files() -> str:
    """The text of diffusers' table of classes that it reads from one file; importing it takes seconds."""
    found = importlib.util.find_spec("diffusers")
    roots = [Path(root) for root in (found.submodule_search_locations or [])] if found else []
    table = "".join((root / "loaders" / "single_file_model.py").read_text(encoding="utf-8") for root in roots)
    return table[table.find("SINGLE_FILE_LOADABLE_CLASSES") :].partition("\n}")[0]
