"""Rules that a model's own nature decides: its masks, its frames, its positions. See rules.py for the others."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path

from attention_backends.catalog import KERNELS, MODES
from launcher.families import safetensors
from launcher.problems import Problem
from launcher.request.request import Request

MAX_FRAMES = 1 << 16
MAX_FPS = 1000  # animated files count milliseconds


def masks(request: Request) -> Iterator[Problem]:
    """A mask needs a mode and a kernel that take one, and a key of its own on every rank."""
    model, mode, kernel = request.config.model, MODES.get(request.mode), KERNELS.get(request.config.attention.kernel)
    if not model.mask:
        return
    if mode is not None and not mode.masks:
        rule = f"takes no attention mask, and {model.name} always passes one"
        same = f"type cp=unified_anything cp.ring_degree={request.mesh.ring} cp.ulysses_degree=1"
        yield Problem(f"cp={mode.name}", rule, same)
    if kernel is not None and not kernel.mask:
        rule = f"takes no attention mask, and {model.name} always passes one"
        yield Problem(f"attention.kernel={kernel.name}", rule, "type attention=auto")
    ranks = request.mesh.sequence
    if mode is not None and mode.parallel and model.text == "padded" and 0 < model.text_tokens < ranks:
        rule = f"{ranks} ranks need a text token each, for {model.name} masks them"  # a view() in its code
        least = f"type model.text_tokens={ranks} or more"
        yield Problem(f"model.text_tokens={model.text_tokens}", rule, least)


def frames(request: Request) -> Iterator[Problem]:
    """Frames and frames a second are a video's, and a picture's format cannot hold one."""
    config, model = request.config, request.config.model
    given = {"frames": (config.frames, model.frames, MAX_FRAMES), "fps": (config.fps, model.fps, MAX_FPS)}
    for key, (number, default, most) in given.items():
        if model.frames_per_latent is None:
            if number is not None:
                rule = f"{model.name} makes pictures, not videos"
                yield Problem(f"{key}={number}", rule, "leave it out, or type model=wan_t2v_1_3b or model=ltx_video")
        elif number is None or not 1 <= number <= most:
            rule = f"{model.name} makes videos: a number from 1 to {most}"
            yield Problem(f"{key}={'null' if number is None else number}", rule, f"type {key}={default}")
    if model.frames_per_latent is not None and config.output.format == "jpeg":
        yield Problem(
            "output=jpeg", f"holds one picture, and {model.name} makes videos", "type output=webp or output=png"
        )


def positions(request: Request) -> Iterator[Problem]:
    """Tokens each way, and latents in time, have positions that the transformer knows."""
    most, model = request.config.model.max_positions, request.config.model
    if most is None:
        return
    for key, side in (("height", request.rendered.height), ("width", request.rendered.width)):
        if side > most * request.multiple:
            rule = f"{model.name} knows {most} positions each way, of {request.multiple} pixels"
            yield Problem(f"{key}={getattr(request.requested, key)}", rule, f"type {key}={most * request.multiple}")
    if request.latents > most:
        longest = (most - 1) * (model.frames_per_latent or 1) + 1
        rule = f"{model.name} knows {most} positions in time, of {model.frames_per_latent} frames"
        yield Problem(f"frames={request.frames}", rule, f"type frames={longest}")


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
        path = Path(wanted.path).expanduser()
        there = path.is_file()
    except (OSError, ValueError, RuntimeError):  # a NUL, or a user who is not known
        there = False
    if not there:
        yield Problem(value, "is no file", "give the path of a .safetensors file on this machine")
    elif path.suffix != ".safetensors":
        rule = "is no .safetensors file; other formats can run code when they are read"
        yield Problem(value, rule, "fetch or convert it to safetensors")
    elif flaw := safetensors.flaw(path):
        yield Problem(value, flaw, "fetch the file again")
    if importlib.util.find_spec("peft") is None:
        yield Problem(value, "needs the package peft, which is not installed", "type pip install peft")
