"""A LaunchConfig with everything that was left out filled in: degrees, device, size, prompts.

Nothing is refused here. What is illegal stays as it is, for rules.py to name; all of it at once.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from launcher.config import LaunchConfig
from launcher.geometry import Size, divisors, image_tokens, latent_frames, render_frames, render_size, shares
from launcher.machine import CPU_RANKS, Machine, planned
from launcher.problems import Problem
from launcher.text import prompt_tokens

MODES = ("none", "ring", "ulysses", "unified", "ulysses_anything", "ring_anything", "unified_anything")
EVEN_MODES = ("ring", "ulysses", "unified")
MAX_RANKS = 256  # of one host
MAX_PROMPT_FILE = 1 << 20  # bytes; text encoders read some hundred words


@dataclass(frozen=True)
class Request:
    """One run, fully determined. Sizes in pixels; frames are None for pictures.

    schedule: how a ring moves keys and values, "gather" or "staged"; "" in a mode without a ring. why: what decided
    cp=auto.
    """

    config: LaunchConfig
    machine: Machine
    device: str
    devices: tuple[int, ...]
    dtype: str
    mode: str
    ring_degree: int
    ulysses_degree: int
    processes: int
    threads: int
    requested: Size
    rendered: Size
    frames: int | None
    rendered_frames: int | None
    prompts: tuple[str, ...]
    seed: int
    schedule: str = ""
    why: str = ""
    problems: tuple[Problem, ...] = field(default=())  # found while reading prompts

    @property
    def multiple(self) -> int:
        """Pixels of a token, each way."""
        return max(1, self.config.model.vae_scale * self.config.model.patch)

    @property
    def negative_prompt(self) -> str | None:
        """The prompt of classifier-free guidance's other half, or None where that is off."""
        config = self.config
        on = (config.guidance or 0) > 1 if config.model.guidance_cfg else config.model.true_cfg > 1
        return (config.negative_prompt or "") if on else None

    @property
    def ranks_per_device(self) -> int:
        """Ranks on the fullest GPU; 1 on a CPU, whose cores are dealt out instead."""
        return -(-self.processes // len(self.devices)) if self.devices else 1

    @property
    def latents(self) -> int:
        """Latents in time."""
        per_latent = self.config.model.frames_per_latent
        return latent_frames(self.rendered_frames, max(1, per_latent)) if per_latent and self.rendered_frames else 1

    @cached_property
    def texts(self) -> tuple[int, ...] | None:
        """Text tokens of each call of the transformer, as far as they differ and are split; None: not known yet."""
        model = self.config.model
        if model.text == "whole":
            return ()
        if model.text != "prompt":
            return (model.text_tokens,)
        given = [*self.prompts, *([self.negative_prompt] if self.negative_prompt is not None else [])]
        counted = prompt_tokens(model, given)
        return None if counted is None else tuple(dict.fromkeys(counted))

    @property
    def streams(self) -> dict[str, int]:
        """Tokens of each split stream, in the order that a rank concatenates them: the most of any call."""
        text = self.config.model.text_tokens if self.texts is None else max(self.texts, default=0)
        visual = "image" if self.frames is None else "video"
        pixels = {visual: self.latents * image_tokens(self.rendered, self.multiple)}
        return pixels if self.texts == () else {"text": text, **pixels}

    @property
    def passes(self) -> int:
        """Runs of the transformer in a step: classifier-free guidance takes two."""
        return 2 if self.negative_prompt is not None else 1

    @property
    def tokens_per_rank(self) -> list[dict[str, int]]:
        """Tokens of each stream that each rank holds."""
        each = {name: shares(length, self.processes) for name, length in self.streams.items()}
        return [{name: lengths[rank] for name, lengths in each.items()} for rank in range(self.processes)]


def fill_in(config: LaunchConfig, here: Machine) -> Request:
    """Everything but cp=auto and cp.schedule=auto, which `choose.resolve` decides, from the machine and the model."""
    runtime, machine = config.runtime, planned(config.machine, here)
    device = runtime.device if runtime.device != "auto" else ("cuda" if machine.gpus or runtime.devices else "cpu")
    prompts, problems = _prompts(config)
    requested = Size(config.height, config.width)
    per_latent = config.model.frames_per_latent
    frames = config.frames if per_latent is not None else None
    request = Request(
        config=config,
        machine=machine,
        device=device,
        devices=(),
        dtype=runtime.dtype if runtime.dtype != "auto" else ("bfloat16" if device == "cuda" else "float32"),
        mode=config.cp.mode,
        ring_degree=1,
        ulysses_degree=1,
        processes=1,
        threads=1,
        requested=requested,
        rendered=render_size(requested, max(1, config.model.vae_scale * config.model.patch)),
        frames=frames,
        rendered_frames=render_frames(frames, max(1, per_latent or 1)) if frames is not None else None,
        prompts=prompts,
        seed=config.seed if config.seed is not None else secrets.randbelow(1 << 32),
        problems=tuple(problems),
    )
    return shared(request, config.cp.mode, config.cp.ring_degree, config.cp.ulysses_degree, runtime.processes)


def shared(request: Request, mode: str, ring: int | None, ulysses: int | None, processes: int | None) -> Request:
    """The request with its sequence shared in this way; degrees and processes that are None follow from the rest."""
    config, machine = request.config, request.machine
    chosen = config.runtime.devices
    devices = tuple(chosen) if chosen is not None else tuple(gpu.index for gpu in machine.gpus)
    devices = devices if request.device == "cuda" else ()
    gpus = len(devices) if request.device == "cuda" else None
    ring, ulysses, processes = _degrees(mode, ring, ulysses, processes, gpus, config.model.heads)
    threads = config.runtime.threads
    return replace(
        request,
        mode=mode,
        ring_degree=ring,
        ulysses_degree=ulysses,
        processes=processes,
        devices=devices[: max(0, processes)],
        threads=threads if threads is not None else max(1, machine.cores // max(1, processes)),
    )


def _degrees(
    mode: str, ring: int | None, ulysses: int | None, processes: int | None, gpus: int | None, heads: int
) -> tuple[int, int, int]:
    """(ring degree, Ulysses degree, processes): what is given, and what follows from it.

    Args:
        gpus: GPUs to use, or None on a CPU.
    """
    if mode in ("auto", "none"):
        return ring or 1, ulysses or 1, processes or 1
    world = gpus if gpus is not None else CPU_RANKS
    if mode.startswith("ring"):
        ulysses = 1 if ulysses is None else ulysses
        ring = ring if ring is not None else _divide(processes or world, ulysses)
    elif mode.startswith("ulysses"):
        ring = 1 if ring is None else ring
        ulysses = ulysses if ulysses is not None else _divide(processes or world, ring)
    else:
        world = processes or (world if gpus is not None else 2 * CPU_RANKS)
        if ulysses is None:
            any_heads = mode == "unified_anything"
            ulysses = _divide(world, ring) if ring is not None else _balanced(world, 0 if any_heads else heads)
        ring = ring if ring is not None else _divide(world, ulysses)
    return ring, ulysses, processes if processes is not None else ring * ulysses


def _divide(world: int, degree: int) -> int:
    """The other degree; at least 1, so that a product that does not fit is named by its rule."""
    return max(1, world // degree) if degree > 0 else max(1, world)


def _balanced(world: int, heads: int) -> int:
    """The Ulysses degree that divides both (0 heads: any will do) and leaves the shortest ring that is as long."""
    if world > MAX_RANKS:
        return 1
    fitting = [degree for degree in divisors(max(1, world)) if heads % degree == 0 and degree * degree <= world]
    return fitting[-1] if fitting else 1


def _prompts(config: LaunchConfig) -> tuple[tuple[str, ...], list[Problem]]:
    if config.prompt_file is None:
        return (config.prompt if config.prompt is not None else config.model.prompt,), []
    value = f"prompt_file={config.prompt_file}"
    if config.prompt is not None:
        return (), [Problem(value, "prompt is given too, and a run takes one of them", "leave one out")]
    try:
        path = Path(os.path.expanduser(config.prompt_file))
        if path.stat().st_size > MAX_PROMPT_FILE:
            rule = f"is {path.stat().st_size} bytes long; a prompt file may have {MAX_PROMPT_FILE}"
            return (), [Problem(value, rule, "text encoders read a few hundred words: shorten it")]
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        return (), [Problem(value, f"cannot be read ({error.strerror})", "give the path of a text file")]
    except ValueError:  # UnicodeDecodeError, or a NUL in the path
        return (), [Problem(value, "is not UTF-8 text", "save it as UTF-8")]
    if path.suffix != ".json":
        return (text.removesuffix("\n").removesuffix("\r"),), []
    try:
        prompts = json.loads(text)
    except (ValueError, RecursionError) as error:
        return (), [Problem(value, f"is no JSON ({error})", 'write a list of strings: ["one", "two"]')]
    if not (isinstance(prompts, list) and prompts and all(isinstance(prompt, str) for prompt in prompts)):
        return (), [Problem(value, "must be a list of strings, at least one", 'write ["one", "two"]')]
    return tuple(prompts), []
