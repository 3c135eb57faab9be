"""A LoRA's file against the model, by headers alone: what a rank could not wear is told before it starts."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from launcher import lora_config, lora_keys
from launcher.config.model_schema import ModelConfig
from launcher.config.paths import user_path
from launcher.families.safetensors import Tensor, read_header, read_metadata
from launcher.families.weights import BASES, folder, snapshot, variants, weight_files

WHOLE = ("I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL")  # safetensors' names
Shapes = dict[str, tuple[int, ...]]
BLOCK = re.compile(r"(\w+)\.\d+\.")  # one of a list of blocks
# A repository of the hub, and perhaps a file in it.
HUB = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(?:/(?P<file>[\w./ -]+\.safetensors))?")


def candidates(text: str) -> dict[str, Path]:
    """What a LoRA's path may mean, by what to type for it: a file itself, or those in a folder.

    A repository of the hub is a folder as far as the hub's cache has it.

    Raises:
        ValueError: no file can have this name.
    """
    path = user_path(text)
    if path.is_dir():
        return _inside(path, text)
    if path.exists():
        return {text: path}
    named = HUB.fullmatch(text)
    if named is None or ".." in text:
        return {}
    folder = snapshot(named["repository"])
    if named["file"] is None:
        return _inside(folder, text)
    return {text: folder / named["file"]} if (folder / named["file"]).is_file() else {}


def file(text: str) -> Path:
    """The file that a LoRA's path names, which the rules have found to be one.

    Raises:
        FileNotFoundError: it was removed since.
    """
    for found in candidates(text).values():
        return found
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)


def _inside(folder: Path, text: str) -> dict[str, Path]:
    found = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*/*.safetensors"))
    return {f"{text.rstrip('/')}/{each.relative_to(folder)}": each for each in found}


def flaw(path: Path, model: ModelConfig) -> str | None:
    """Why a model can't wear the LoRA in a file that is whole, as the end of a sentence; None if nothing is known."""
    header = read_header(path)
    if found := lora_keys.flaw(header):
        return found
    stems, _ = lora_keys.stems(header)
    ranks = {}
    for stem, parts in stems.items():
        down, up = header[parts.keys["down"]].shape, header[parts.keys["up"]].shape
        if len(down) < 2 or len(up) < 2 or down[0] != up[1] or 0 in (*down, *up):
            return (
                f"has matrices of {list(down)} and {list(up)} at {lora_keys.some([stem])}, which don't fit each other"
            )
        if "alpha" in parts.keys and header[parts.keys["alpha"]].elements != 1:
            return f"has an alpha at {lora_keys.some([stem])} that is not one number"
        if (kind := header[parts.keys["down"]].dtype) in WHOLE or (kind := header[parts.keys["up"]].dtype) in WHOLE:
            return f"holds whole numbers ({kind}) at {lora_keys.some([stem])}: quantised, with no scale"
        ranks[stem] = down[0]
    try:
        lora_config.scales(path, read_metadata(path), stems, ranks)
    except ValueError as error:
        return str(error).removeprefix(f"{path.name}: ").removeprefix(f"{path.name} ")
    return _misfit(header, stems, _layers(model))


def _misfit(header: dict[str, Tensor], stems: dict[str, lora_keys.Stem], layers: Shapes) -> str | None:
    """The first layer that the model has not, or in another size; names of other programs are not known here."""
    flat = {name.replace(".", "_"): shape for name, shape in layers.items()}
    lists = {name.partition(".")[0] for name in layers}
    blocks = {found[0] for name in layers if (found := BLOCK.match(name))}
    for stem, parts in stems.items():
        part, layer = lora_config.place(stem)
        if part != "transformer":
            continue
        if (found := BLOCK.match(layer)) and found[1] in lists and found[0] not in blocks:
            return f"is made for a model with more blocks: {lora_keys.some([stem])}"
        kohya = re.match(r"(lora_transformer|lora_unet|lycoris)_", layer)
        shape = flat.get(layer[kohya.end() :]) if kohya else layers.get(layer)
        outputs, inputs = header[parts.keys["up"]].shape[0], header[parts.keys["down"]].shape[1]
        if shape is not None and shape[:2] != (outputs, inputs):
            sizes = f"{inputs} to {outputs} channels instead of {shape[1]} to {shape[0]}"
            return f"is made for a model of other sizes: {lora_keys.some([stem])} has {sizes}"
    return None


def _layers(model: ModelConfig) -> Shapes:
    """The sizes of the layers of a model's first transformer, as far as its files are here."""
    here, base = folder(model), BASES["diffusers"]
    if here is None:
        return {}
    part = here / model.transformers[0]
    names = sorted(variants(part, base)) or [""]
    return {
        name.removesuffix(".weight"): shape
        for name, shape in weight_files(part, base, names[0]).shapes.items()
        if name.endswith(".weight") and len(shape) >= 2
    }
