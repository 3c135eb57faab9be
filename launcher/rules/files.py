"""Files and folders: weights, a LoRA, where pictures go."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from launcher import codec
from launcher.config.model_schema import ModelConfig
from launcher.config.paths import is_utf8, user_path
from launcher.families import lora as lora_files
from launcher.families import replaced, safetensors
from launcher.families.checkpoint import NOT_UTF8, RENAME
from launcher.families.hub import answer_problems
from launcher.families.parts import installed, shadowed
from launcher.families.weights import revision_problems
from launcher.problems import Problem, choices
from launcher.records.formats import FORMATS, Texts
from launcher.request.loras import flaws, loras
from launcher.request.request import Request
from launcher.rules.numbers import MAX_SIDE
from launcher.rules.rule import rule
from launcher.wording import plural

REST_OF_RECIPE = 1024  # bytes at most for versions, crop and what is filled in
TIMES_WRITTEN = 16  # at most: XML writes & as 5 bytes, and the prompt is written twice
BYTES_OF_A_HASH = 160  # of a weight file, with its name
MOST_NAMED = 6  # files of a folder that a refusal names


@rule
def lora(request: Request) -> Iterator[Problem]:
    """Each LoRA is a whole safetensors file that the model can wear, has a strength, and what reads it is installed."""
    yield from flaws(request.config.lora)
    found = loras(request.config.lora)
    for one in found:
        yield from _lora_problems(f"lora.path={one.path}", one.path, request.config.model)
    if found and importlib.util.find_spec("peft") is None:
        value = f"lora.path={found[0].path}"
        yield Problem(value, "needs the package peft, which is not installed", "type pip install peft")


def _lora_problems(value: str, text: str, model: ModelConfig) -> Iterator[Problem]:
    meant: dict[str, Path] = {}
    folder = False
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # a NUL, or a user who is not known
        meant, folder = lora_files.candidates(text), user_path(text).is_dir()
    if not meant:
        hub = lora_files.HUB.fullmatch(text)
        what, instead = "no such file", "give the path of a .safetensors file on this machine"
        if folder:
            what, instead = "is a folder without .safetensors files", "give the path of a .safetensors file"
        elif "://" in text:
            what = "is an address, and LoRAs are read from files of this machine alone"
        elif hub is not None and (hub["file"] or not text.endswith(".safetensors")):
            fetch = shlex.join(["hf", "download", hub["repository"], *([hub["file"]] if hub["file"] else [])])
            what = "no such file here, nor in the hub's cache"
            instead += f"; a repository of the hub is fetched with {fetch}"
        yield Problem(value, what, instead)
        return
    if len(meant) > 1:
        names = [shlex.quote(f"lora.path={typed}") for typed in list(meant)[:MOST_NAMED]]
        more = f" ({len(meant)} in all)" if len(meant) > MOST_NAMED else ""
        yield Problem(value, f"holds {len(meant)} .safetensors files", f"type {choices(names)}{more}")
        return
    path = next(iter(meant.values()))
    if not is_utf8(path):
        yield Problem(value, NOT_UTF8, RENAME)
    elif path.suffix != ".safetensors":
        what = "not a .safetensors file; other formats can run code when they are read"
        yield Problem(value, what, "fetch or convert it to safetensors")
    elif flaw := safetensors.flaw(path):
        yield Problem(value, flaw, "fetch the file again")
    elif flaw := lora_files.flaw(path, model):
        yield Problem(value, flaw, "give another file, or leave it out")


@rule
def output_format(request: Request) -> Iterator[Problem]:
    """A picture, and its recipe, fit into the format: known before anything is drawn."""
    config, model = request.config, request.config.model
    kind = FORMATS.get(request.format)
    if kind is None:
        return  # named by words
    value = f"output={kind.name}"
    if kind.film and model.frames_per_latent is None:
        yield Problem(value, f"holds a film, and {model.name} makes pictures", "type output=png or output=webp")
    if kind.max_side < max(config.height, config.width) <= MAX_SIDE:
        yield Problem(value, f"{kind.name} files hold at most {kind.max_side} pixels a side", "type output=png")
    if model.frames_per_latent is not None and (request.frames or 1) > kind.max_frames:
        most = "one picture" if kind.max_frames == 1 else f"at most {kind.max_frames} frames"
        yield Problem(value, f"holds {most}, and {model.name} makes videos", "type output=mp4 or output=webp")
    settings = dataclasses.asdict(config)
    rest = REST_OF_RECIPE + BYTES_OF_A_HASH * len(request.inputs.checkpoint.files)
    for prompt in {max(request.prompts, key=_ascii_bytes, default=""), max(request.prompts, key=len, default="")}:
        try:
            if TIMES_WRITTEN * len(codec.dumps(settings | {"prompt": prompt})) + rest <= kind.max_recipe:
                continue
            from launcher.records.record import SCHEMA, Recipe  # which a plan seldom has to wait for

            texts = Texts.of(Recipe(SCHEMA, settings | {"prompt": prompt}, (0, 0, 0, 0), {}), config.output.metadata)
        except ValueError:  # a number that is not finite, which its own rule names
            return
        if texts.recipe and (size := kind.overflow(texts, rest)):
            what = f"the prompt and settings take {size} bytes, and the file has room for {kind.max_recipe}"
            yield Problem(value, what, "type output=png or output.metadata=none, or shorten the prompt")
            return


@rule
def film(request: Request) -> Iterator[Problem]:
    """What a film is encoded with takes its size, and codec and quality are a film's."""
    output, codec, kind = request.config.output, request.codec, FORMATS.get(request.format)
    if kind is None:
        return  # named by words
    for key in ("codec", "crf"):
        if getattr(output, key) is not None and not kind.film:
            what = f"is of output=mp4, and this is output={kind.name}"
            films = request.config.model.frames_per_latent is not None
            instead = "type output=mp4, or leave it out" if films else "leave it out"
            yield Problem(f"output.{key}={getattr(output, key)}", what, instead)
    if codec is None:
        return
    if output.crf is not None and not 0 <= output.crf <= codec.worst:
        what = f"{codec.name} takes 0 (best) to {codec.worst} (worst)"
        yield Problem(f"output.crf={output.crf}", what, f"type output.crf={codec.crf} or leave it out")
    sides = (request.requested.height, request.requested.width)
    if 0 < min(sides) < codec.least or codec.most < max(sides) <= kind.max_side:
        what = f"{codec.name} takes {codec.least} to {codec.most} pixels a side"
        yield Problem(f"output.codec={codec.name}", what, "type output.codec=h264 or output=webp")


def _ascii_bytes(text: str) -> int:
    return len(json.dumps(text))


@rule
def output_folder(request: Request) -> Iterator[Problem]:
    """Pictures can be written: an own folder with room in it."""
    if not request.machine.here:
        return
    found = list(_folder_problems("output.dir", request.config.output.dir, request))
    if not found and request.folder is not None:  # usually one below
        found = list(_folder_problems("hydra.run.dir", request.folder, request))
    yield from found


def _folder_problems(setting: str, text: str, request: Request) -> Iterator[Problem]:
    """Why a request's pictures can't be written below the folder that a setting names, which need not be there yet."""
    value, instead = f"{setting}={text}", f"choose another folder: {setting}=FOLDER"
    try:
        folder = user_path(text)
        there = next(parent for parent in (folder, *folder.parents) if os.path.lexists(parent))
        if not there.exists():
            yield Problem(value, f"{there.name} is a link to nothing ({os.readlink(there)})", instead)
        elif not there.is_dir():
            yield Problem(value, f"{there.name} is a file", instead)
        elif not os.access(there, os.W_OK | os.X_OK):
            yield Problem(value, "not writable", instead)
        else:
            count = max(1, request.images) * max(1, len(request.prompts))
            pixels = max(1, request.requested.height) * max(1, request.requested.width) * max(1, request.frames or 1)
            kind = FORMATS.get(request.format)
            need = (1 << 20) + (kind.pixel_bytes if kind is not None else 4) * count * pixels
            if (free := shutil.disk_usage(there).free) < need:
                what = plural(count, "picture" if request.frames is None else "video")
                what = f"{free / 2**20:.0f} MiB are free, and {what} may take {need / 2**20:.0f} MiB"
                yield Problem(value, what, f"choose a folder on another disk: {setting}=FOLDER")
    except OSError as error:
        yield Problem(value, f"can't be used as a folder ({error.strerror or error})", instead)
    except ValueError as error:  # no file can have this name
        yield Problem(value, str(error), instead)


@rule
def weights(request: Request) -> Iterator[Problem]:
    """The model's weights are here, or can be fetched, and what loads them is what is installed."""
    model = request.config.model
    yield from revision_problems(model)
    if not request.machine.here:
        return
    yield from request.inputs.checkpoint.problems
    yield from replaced.part_problems(model)
    yield from shadowed()
    for package in model.packages:
        if not installed(package):
            what = f"needs the package {package}, which is not installed"
            yield Problem(f"model={model.name}", what, f"type pip install {shlex.quote(package)}")


@rule
def gguf(request: Request) -> Iterator[Problem]:
    """A transformer whose weights stay quantised has its package, and nothing that would add to the weights."""
    config, text = request.config, request.config.model.transformer
    if text is None or not text.endswith(".gguf"):
        return
    value = f"model.transformer={text}"
    if importlib.util.find_spec("gguf") is None:
        yield Problem(value, "needs the package gguf, which is not installed", "type pip install gguf")
    for one in loras(config.lora)[:1]:
        what = "goes with whole weights, and those of a GGUF file stay quantised"
        yield Problem(f"lora.path={one.path}", what, "leave it out, or give a transformer in .safetensors")


def reachable(request: Request) -> Iterator[Problem]:
    """Weights that are not here come from the hub, which must answer.

    Asked last, where nothing else is wrong: it is the only rule that waits for a network.
    """
    if not request.machine.here:
        return
    from huggingface_hub import constants  # milliseconds; the rest of that package takes a second

    model, checkpoint = request.config.model, request.inputs.checkpoint
    if not checkpoint.whole:
        yield from answer_problems(model, constants.ENDPOINT, checkpoint.lacking)
    yield from replaced.answer_problems(model, constants.ENDPOINT)
