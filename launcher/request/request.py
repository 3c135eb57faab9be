"""A request with everything that was left out filled in: mesh, device, size, prompts. Plain data."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from attention_backends.layout import split_lengths
from launcher.caches import SETTINGS, WARM, Cache
from launcher.config.schema import LaunchConfig
from launcher.decoding import TILE, Decoding
from launcher.families.call import negative_prompt
from launcher.families.tasks import denoising_steps, task_of, tasks
from launcher.machines import Machine
from launcher.problems import Problem
from launcher.records.film import CODECS, Codec
from launcher.records.formats import FORMATS
from launcher.request.geometry import Size, image_tokens, latent_frames, reference_size
from launcher.request.inputs import Inputs
from launcher.request.mesh import Mesh
from launcher.request.pictures import Fit, Given, covering
from launcher.request.way import Way
from launcher.schedulers import Wish

MAX_RANKS = 256  # of one host
MAX_PICTURES = 10_000  # of a run: files are named 0000 to 9999, and a run's record stays readable


@dataclass(frozen=True)
class Request:
    """One run, fully determined. Sizes in pixels; frames are None for pictures.

    mode: a row of attention_backends.catalog.MODES, or what was typed in its place. mesh: the degrees that were asked
    for, and those that follow. processes: how many were asked for, which must fill the mesh; None: as many as it has.
    threads: that each rank computes with. shares: of the tokens and heads, one a rank of a sequence; empty: equal ones.
    schedule: how a ring moves keys and values, "gather" or "staged"; "" in a mode without a ring. weights: whether
    each rank holds all of the transformer, "replicated" or "sharded", or what was typed in its place. why: what decided
    cp=auto. ways: the table of all modes, priced; empty where nothing has needed it yet. folder: what hydra.run.dir
    names; None of a sweep's job. groups: of ranks that share the whole machine and work at once; the request is that of
    one of them, on its part. taken: the options that memory=auto took, and why; unfit: that none makes it fit.
    """

    config: LaunchConfig
    machine: Machine
    whole: Machine
    device: str
    devices: tuple[int, ...]
    dtype: str
    mode: str
    mesh: Mesh
    processes: int | None
    threads: tuple[int, ...]
    requested: Size
    rendered: Size
    frames: int | None
    rendered_frames: int | None
    inputs: Inputs
    shares: tuple[int, ...] = ()
    schedule: str = ""
    weights: str = "replicated"
    why: str = ""
    ways: tuple[Way, ...] = ()
    folder: str | None = None
    groups: int = 1
    taken: tuple[str, ...] = ()
    taken_why: str = ""
    unfit: tuple[Problem, ...] = ()

    @property
    def multiple(self) -> int:
        """Pixels of a token, each way."""
        return max(1, self.config.model.vae_scale * self.config.model.patch)

    @property
    def prompts(self) -> tuple[str, ...]:
        """What to draw."""
        return self.inputs.prompts

    @property
    def images(self) -> int:
        """Pictures of each prompt."""
        typed, batch = self.config.images, self.config.batch
        return typed if typed is not None else batch if len(self.prompts) == 1 else 1

    @cached_property
    def calls(self) -> tuple[tuple[int, ...], ...]:
        """The calls of the pipeline: the number of the prompt of each picture that a call draws."""
        images, batch = self.images, max(1, self.config.batch)
        if not 1 <= images * len(self.prompts) <= MAX_PICTURES:  # named by a rule
            return ()
        numbers = range(len(self.prompts))
        together = [[number] * images for number in numbers]
        if self.config.model.batch != "same":
            together = [[number for each in together for number in each]]
        return tuple(tuple(each[start : start + batch]) for each in together for start in range(0, len(each), batch))

    def share(self, group: int, groups: int) -> tuple[tuple[int, ...], ...]:
        """The calls that one of several groups makes, which are dealt in turn: the numbers of each one's pictures."""
        ends = list(itertools.accumulate(map(len, self.calls), initial=0))
        return tuple(tuple(range(*pair)) for pair in itertools.pairwise(ends))[group::groups]

    @property
    def batch(self) -> int:
        """The most pictures that a call draws."""
        return max((len(call) for call in self.calls), default=1)

    @property
    def masked(self) -> bool:
        """Whether attention gets a mask: always, or where the prompts of a call are not equally long."""
        tokens, batch = self.inputs.tokens, self.config.model.batch

        def unequal(call: tuple[int, ...]) -> bool:
            counts = {tokens[number] for number in call}
            return len(set(call)) > 1 and (None in counts or len(counts) > 1)

        return self.config.model.mask or (batch == "masked" and any(map(unequal, self.calls)))

    def why_masked(self, a_mask: str = "one") -> str:
        """What has a mask, and where; `a_mask` is what a mask is called there."""
        model = self.config.model
        always = f"{model.name} always uses {a_mask}"
        return always if model.mask else f"{model.name} uses {a_mask} where the prompts of a call are not equally long"

    @property
    def seed(self) -> int:
        """The first picture's seed."""
        return self.inputs.seed

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was found while reading prompts, and while looking for room."""
        return (*self.inputs.problems, *self.unfit)

    @property
    def usable(self) -> tuple[int, ...]:
        """The GPUs that the ranks may use, by index, in the order in which they are given out."""
        chosen = self.config.runtime.devices if self.groups == 1 else None
        return tuple(chosen) if chosen is not None else tuple(gpu.index for gpu in self.machine.gpus)

    @property
    def pictures(self) -> int:
        """Pictures, or videos, of the whole run."""
        return len(self.prompts) * self.images

    @property
    def negative_prompt(self) -> str | None:
        """The prompt of classifier-free guidance's other half, or None where that is off."""
        return negative_prompt(self.config)

    @property
    def ranks_per_device(self) -> int:
        """Ranks on the fullest GPU; 1 on a CPU, whose cores are dealt out instead."""
        return -(-self.mesh.ranks // len(self.devices)) if self.devices else 1

    @property
    def latents(self) -> int:
        """Latents in time."""
        per_latent = self.config.model.frames_per_latent
        return latent_frames(self.rendered_frames, max(1, per_latent)) if per_latent and self.rendered_frames else 1

    @cached_property
    def texts(self) -> tuple[int, ...] | None:
        """Text tokens of each call of the transformer, as far as they differ and are split; None: not known yet."""
        model, inputs = self.config.model, self.inputs
        if model.text == "whole":
            return ()
        if model.text != "prompt":
            return (model.text_tokens + model.text_extra,)
        negative = () if self.negative_prompt is None else (inputs.negative_tokens,)
        counted = [count for count in (*inputs.tokens, *negative) if count is not None]
        if not counted or len(counted) < len(inputs.tokens) + len(negative):
            return None
        longest = [max(inputs.tokens[number] or 0 for number in call) for call in self.calls]
        lengths = (*longest, *(count or 0 for count in negative))
        return tuple(dict.fromkeys(min(count, model.text_tokens) for count in lengths))

    @property
    def streams(self) -> dict[str, int]:
        """Tokens of each split stream, in the order that a rank concatenates them: the most of any call."""
        model = self.config.model
        text = model.text_tokens + model.text_extra if self.texts is None else max(self.texts, default=0)
        visual = "image" if self.frames is None else "video"
        drawn = self.latents * image_tokens(self.rendered, self.multiple)
        pixels = {visual: drawn + sum(image_tokens(size, self.multiple) for size in self.references)}
        return pixels if self.texts == () else {"text": text, **pixels}

    @property
    def scheduler(self) -> Wish:
        """What is asked of the scheduler."""
        config = self.config.scheduler
        return Wish(config.name, config.shift, config.sigmas, config.options or None)

    @property
    def tile(self) -> int:
        """The side of a tile of the VAE, in pixels, where it decodes in tiles."""
        return TILE if self.config.vae.tile is None else self.config.vae.tile

    @property
    def decoding(self) -> Decoding:
        """How the VAE decodes."""
        vae = self.config.vae
        return Decoding(self.tile if vae.tiling else None, vae.tiling and vae.shared, vae.slicing)

    @property
    def cache(self) -> Cache:
        """The cache of steps, with the defaults of its settings."""
        asked, steps = self.config.cache, self.denoising_steps
        usual = SETTINGS.get(asked.name, {})

        def value(name: str) -> Any:
            given = getattr(asked, name) if name in usual else None
            return usual.get(name) if given is None else given

        warmup = value("warmup")
        if warmup is None and "warmup" in usual:
            warmup = max(1, round(WARM * steps))
        ratios = tuple(asked.ratios or self.config.model.mag_ratios) if "ratios" in usual else ()
        return Cache(asked.name, value("threshold"), value("interval"), warmup, value("order"), ratios, steps)

    @property
    def format(self) -> str:
        """The output format, or what was typed in its place."""
        chosen = self.config.output.format
        return chosen if chosen != "auto" else "mp4" if self.config.model.frames_per_latent is not None else "png"

    @property
    def codec(self) -> Codec | None:
        """How a film is encoded; None for another format, and for an unknown word."""
        kind = FORMATS.get(self.format)
        return CODECS.get(self.config.output.codec or "h264") if kind is not None and kind.film else None

    @property
    def references(self) -> list[Size]:
        """The sizes in which pictures are looked at beside what is drawn; in a plan without any, one square."""
        model, beside = self.config.model, self.beside
        if beside is None:
            return []
        if beside == "same":
            return [self.rendered]
        sizes = [given.size for given in self.inputs.pictures if given.setting == "image"] or [Size(1, 1)]
        how = (model.reference_sizes, model.reference_area, model.reference_most, self.multiple)
        return [found for size in sizes if (found := reference_size(size, *how))]

    @property
    def beside(self) -> str | None:
        """How a picture is looked at beside what is drawn: "own", in its own shape, "same", or None, not at all."""
        task = task_of(self.config) or next(iter(tasks(self.config.model).values()), None)
        return None if task is None else task.beside

    @property
    def counted(self) -> bool:
        """Whether the tokens of all that is split are known before the start."""
        return self.config.model.counted and (not self.references or bool(self.inputs.pictures))

    def fit(self, given: Given) -> Fit | None:
        """How a given picture is made ready; None for one that the pipeline itself scales."""
        return None if self.beside == "own" else covering(given.size, self.requested, self.rendered)

    def told_of(self, given: Given) -> tuple[str, ...]:
        """What is done to a given picture, in words."""
        fit = self.fit(given)
        if fit is not None:
            return given.changed + fit.told
        pictures = [one for one in self.inputs.pictures if one.setting == "image"]
        size = self.references[pictures.index(given)]
        return given.changed if size == given.size else (*given.changed, f"scaled to {size}")

    @property
    def denoising_steps(self) -> int:
        """Steps that are done for each picture."""
        return denoising_steps(self.config)

    @property
    def passes(self) -> int:
        """Runs of the transformer in a step: classifier-free guidance takes two."""
        return 2 if self.negative_prompt is not None else 1

    @property
    def tokens_per_rank(self) -> list[dict[str, int]]:
        """Tokens of each stream that each rank of a sequence holds."""
        ranks = self.mesh.sequence
        each = {name: split_lengths(length, ranks, self.shares) for name, length in self.streams.items()}
        return [{name: lengths[rank] for name, lengths in each.items()} for rank in range(ranks)]
