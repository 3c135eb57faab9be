"""Files and folders: weights, a LoRA, where pictures go."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import re
import shlex
import shutil
import urllib.request
from collections.abc import Iterator

from launcher.config.paths import is_utf8, user_path
from launcher.families import lora as lora_files
from launcher.families import safetensors
from launcher.families.checkpoint import NOT_UTF8, RENAME
from launcher.families.hub import answer_problems
from launcher.families.parts import installed
from launcher.families.weights import revision_problems
from launcher.problems import Problem
from launcher.records.formats import FORMATS, Texts
from launcher.records.record import SCHEMA, Recipe
from launcher.request.request import Request
from launcher.rules.numbers import MAX_SIDE
from launcher.rules.rule import rule
from launcher.wording import plural

REST_OF_RECIPE = 1024  # bytes at most for versions, crop and what is filled in
BYTES_OF_A_HASH = 160  # of a weight file, with its name


@rule
def lora(request: Request) -> Iterator[Problem]:
    """A LoRA is a whole safetensors file, has a strength, and what reads it is installed."""
    wanted = request.config.lora
    if not math.isfinite(wanted.scale):
        yield Problem(f"lora.scale={wanted.scale:g}", "must be a number", "type lora.scale=1")
    if wanted.path is None:
        if wanted.scale != 1:
            instead = "type lora.path=FILE, or leave it out"
            yield Problem(f"lora.scale={wanted.scale:g}", "scales a LoRA, and none is given", instead)
        return
    value = f"lora.path={wanted.path}"
    try:
        path = user_path(wanted.path)
        there = path.exists()
    except (OSError, ValueError, RuntimeError):  # a NUL, or a user who is not known
        there = False
    if not there:
        what, instead = "no such file", "give the path of a .safetensors file on this machine"
        if "://" in wanted.path:
            what = "is an address, and LoRAs are read from files of this machine alone"
        elif re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", wanted.path) and path.suffix != ".safetensors":
            instead += f"; a repository of the hub is fetched with hf download {wanted.path}"
        yield Problem(value, what, instead)
    elif path.is_dir():
        inside = sorted(each.name for each in path.glob("*.safetensors"))
        instead = (
            f"type {shlex.quote(f'lora.path={path / inside[0]}')}" if inside else "give the path of a .safetensors file"
        )
        yield Problem(value, "is a folder, not a .safetensors file", instead)
    elif not is_utf8(path):
        yield Problem(value, NOT_UTF8, RENAME)
    elif path.suffix != ".safetensors":
        what = "not a .safetensors file; other formats can run code when they are read"
        yield Problem(value, what, "fetch or convert it to safetensors")
    elif flaw := safetensors.flaw(path):
        yield Problem(value, flaw, "fetch the file again")
    elif flaw := lora_files.flaw(path, request.config.model):
        yield Problem(value, flaw, "give another file, or leave it out")
    if importlib.util.find_spec("peft") is None:
        yield Problem(value, "needs the package peft, which is not installed", "type pip install peft")


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
            yield Problem(f"output.{key}={getattr(output, key)}", what, "type output=mp4, or leave it out")
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
            count = max(1, request.config.images) * max(1, len(request.prompts))
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
    """The model's weights are here, or can be fetched."""
    model = request.config.model
    yield from revision_problems(model)
    if not request.machine.here:
        return
    yield from request.inputs.checkpoint.problems
    for package in model.packages:
        if not installed(package):
            what = f"needs the package {package}, which is not installed"
            yield Problem(f"model={model.name}", what, f"type pip install {shlex.quote(package)}")


def reachable(request: Request) -> Iterator[Problem]:
    """Weights that are not here come from the hub, which must answer. Behind a proxy it is the proxy's to say.

    Asked last, where nothing else is wrong: it is the only rule that waits for a network.
    """
    if not request.machine.here or request.inputs.checkpoint.whole or "https" in urllib.request.getproxies():
        return
    from huggingface_hub import constants  # milliseconds; the rest of that package takes a second

    yield from answer_problems(request.config.model, constants.ENDPOINT)
