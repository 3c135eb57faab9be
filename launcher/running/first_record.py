"""What is known of a run before it starts: its first record, with everything filled in and its files' hashes."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from launcher import slurm
from launcher.families import lora as lora_files
from launcher.families import replaced
from launcher.families.tasks import strength
from launcher.records.hashes import cached_sha256, of_setting, weights
from launcher.records.record import SCHEMA, Config, Crop, Frames, Pixels, Record, Sizes, StartedFrom, Weights, at_commit
from launcher.records.run_dir import command_line, portable, versions
from launcher.records.surroundings import checkout, machine
from launcher.request.geometry import crop_box
from launcher.request.loras import loras, settings
from launcher.request.request import Request


def resolved(request: Request) -> Config:
    """The configuration with everything that was left out filled in: with it, the same is made again."""
    config = dataclasses.asdict(request.config)
    config |= {"seed": request.seed, "strength": strength(request.config), "images": request.images}
    config["data"] = str(request.groups)
    config["memory"] = "typed"  # what memory=auto took stands in the settings that it took
    config["output"]["format"] = request.format
    if request.codec is not None:
        crf = request.codec.crf if request.config.output.crf is None else request.config.output.crf
        config["output"] |= {"codec": request.codec.name, "crf": crf}
    config["cp"] = {
        "mode": request.mode,
        "implementation": request.config.cp.implementation,
        "ring_degree": request.mesh.ring,
        "ulysses_degree": request.mesh.ulysses,
        "cfg_degree": request.mesh.cfg,
        "shares": list(request.shares) or None,
        "schedule": request.schedule or "auto",  # which decides nothing in a mode without a ring
        "transport": request.config.cp.transport,
    }
    if request.config.vae.tiling:
        config["vae"]["tile"] = request.tile
    cache = request.cache
    config["cache"] |= {key: getattr(cache, key) for key in ("threshold", "interval", "warmup", "order")}
    config["cache"]["ratios"] = list(cache.ratios) or None
    config["lora"] = settings(request.config.lora)
    config["model"] |= replaced.pinned(request.config.model)
    config["runtime"] |= {"device": request.device, "dtype": request.dtype, "weights": request.weights}
    same = len(set(request.threads)) == 1
    threads = request.threads[0] if same else list(request.threads)
    config["runtime"] |= {"processes": request.mesh.ranks, "threads": threads}
    return at_commit(portable(config), request.inputs.checkpoint.source)


def first_record(request: Request, overrides: list[str], options: Sequence[str]) -> Record:
    """The first record of a run."""
    requested, rendered = request.requested, request.rendered
    typed = any(word.lstrip("+").startswith("seed=") for word in overrides)
    again = overrides if typed else [*overrides, f"seed={request.seed}"]
    gpus = tuple(gpu.name for gpu in request.machine.gpus if gpu.index in request.devices)
    return Record(
        schema=SCHEMA,
        status="running",
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command_line(again, options),
        overrides=tuple(overrides),
        config=resolved(request),
        prompts=request.prompts,
        seed=request.seed,
        size=Sizes(
            requested=Pixels(requested.height, requested.width),
            rendered=Pixels(rendered.height, rendered.width),
            crop=Crop(*crop_box(rendered, requested)),
        ),
        frames=Frames(request.frames, request.rendered_frames, request.config.fps),
        text_tokens=request.texts,
        tokens_per_rank=tuple(request.tokens_per_rank),
        devices=gpus or (f"cpu ({request.machine.cores} cores)",),
        versions=versions(),
        files=(),
        inputs=input_hashes(request),
        started_from=_started_from(request),
        generator="cpu",
        environment=machine(request.device == "cuda"),
        checkout=checkout(),
        slurm=slurm.job() if request.config.cluster.name == "slurm" else None,
        memory_options=request.taken,
    )


def known_weights(request: Request) -> Weights | None:
    """The hashes of the weights that are here; of a repository that has to be fetched nothing is known yet."""
    checkpoint = request.inputs.checkpoint
    if not checkpoint.whole:
        return None
    with contextlib.suppress(OSError):  # which the ranks will tell of
        gone = tuple(f"{name}/" for name in replaced.given(request.config.model))
        return weights(Path(checkpoint.source), [name for name in checkpoint.files if not name.startswith(gone)])
    return None


def input_hashes(request: Request) -> dict[str, str]:
    """The hash of each file that a setting names and that is read as it is."""
    found = {one.setting: cached_sha256(lora_files.file(one.path)) for one in loras(request.config.lora)}
    for name, text in replaced.given(request.config.model).items():
        found |= of_setting(replaced.setting(request.config.model, name), replaced.files(text))
    for setting, pictures in itertools.groupby(request.inputs.pictures, lambda one: one.setting):
        several = list(pictures)
        for number, one in enumerate(several):
            found[setting if len(several) == 1 else f"{setting}[{number}]"] = one.sha256
    return found


def _started_from(request: Request) -> tuple[StartedFrom, ...]:
    return tuple(
        StartedFrom(given.setting, given.path.name, given.size.height, given.size.width, request.told_of(given))
        for given in request.inputs.pictures
    )
