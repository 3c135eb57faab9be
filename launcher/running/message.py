"""What the ranks are told of a job, and the files that they start from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

from attention_backends.catalog import MODES
from launcher.config.model_schema import ModelConfig
from launcher.config.paths import PICTURES
from launcher.config.schema import LaunchConfig
from launcher.estimates import memory
from launcher.families import lora as lora_files
from launcher.families import replaced
from launcher.families.call import arguments
from launcher.families.tasks import strength, task_of
from launcher.problems import RunFailed
from launcher.quantizing import NONE
from launcher.reading import UnreadableError
from launcher.records.files import whole
from launcher.records.formats import FORMATS
from launcher.records.record import SCHEMA, Config, Recipe, Weights
from launcher.records.run_dir import RunDir, versions
from launcher.request.geometry import crop_box
from launcher.request.loras import loras
from launcher.request.pictures import content_of, listed, ready, ready_film
from launcher.request.request import Request
from launcher.request.speeds import rank_speeds
from launcher.running.first_record import input_hashes, resolved
from launcher.running.ranks import GroupKey
from launcher.wire.jobs import Given, Job, Load, LoraFile, PartFile, Picture, Sharing


def group_key(request: Request) -> GroupKey:
    """Which group of ranks can do this."""
    runtime, model, checkpoint = request.config.runtime, request.config.model, request.inputs.checkpoint
    load = Load(
        pipeline=model.pipeline,
        path=checkpoint.source,
        revision=checkpoint.revision,
        variant=checkpoint.variant,
        dtype=request.dtype,
        device=request.device,
        offload=runtime.offload,
        timeout=runtime.timeout,
        transport=request.config.cp.transport,
        deterministic=request.config.deterministic,
        replaced=tuple(_replaced(model)),
        sharded=tuple(model.transformers) if request.weights == "sharded" else (),
        quantized=tuple(model.transformers) if request.config.quantization != NONE else (),
        quantization=request.config.quantization,
        fused=_loras(request.config) if request.config.lora.fuse else (),
    )
    ranks, nodes = request.mesh.ranks, request.machine.nodes
    return GroupKey(ranks, request.devices, request.threads, runtime.start_timeout, load, nodes)


def job_message(request: Request, run_dir: RunDir, weights: Weights | None = None) -> Job:
    """What the ranks are told."""
    config = request.config
    crop = crop_box(request.rendered, request.requested)
    task = task_of(config)
    return Job(
        folder=str(run_dir.path.absolute()),
        load=group_key(request).load,
        sharing=Sharing(
            mode=request.mode,
            implementation=config.cp.implementation,
            ring_degree=request.mesh.ring,
            ulysses_degree=request.mesh.ulysses,
            schedule=request.schedule or "gather",
            kernel=config.attention.kernel,
            plan=config.model.cp_plan,
            transformers=tuple(config.model.transformers),
            cfg_degree=request.mesh.cfg,
            branches=config.model.guidance_branches or "calls",
            shares=request.shares,
            speeds=astuple(rank_speeds(request)[0]) if MODES[request.mode].parallel else (),
            compile=config.compile,
        ),
        loras=() if config.lora.fuse else _loras(config),
        threads=request.threads,
        cores=sum(request.threads),
        call=arguments(config, request.rendered.height, request.rendered.width, request.rendered_frames),
        seed=request.seed,
        crop=crop,
        frames=request.frames,
        fps=config.fps,
        format=request.format,
        metadata=config.output.metadata,
        codec=None if request.codec is None else request.codec.name,
        crf=config.output.crf,
        pipeline=None if task is None else task.pipeline,
        started_from=_given(request, run_dir),
        scheduler=request.scheduler,
        cache=request.cache,
        decoding=request.decoding,
        prompts=request.prompts,
        pictures=pictures_of(request),
        calls=tuple(map(len, request.calls)),
        recipe=Recipe(
            SCHEMA,
            _of_a_picture(resolved(request)),
            crop,
            versions(),
            request.rendered_frames,
            weights=weights,
            inputs=input_hashes(request),
        ),
        check=None if not config.check else "step" if memory.one_rank_holds(request) else "block",
    )


def pictures_of(request: Request) -> tuple[Picture, ...]:
    """What a run makes, in order."""
    suffix = FORMATS[request.format].suffix
    prompts = itertools.chain(*request.calls)
    return tuple(
        Picture(prompt, request.seed + number, f"{number:04d}{suffix}") for number, prompt in enumerate(prompts)
    )


def make_ready(request: Request, run_dir: RunDir) -> None:
    """Write what the ranks start from into the run's folder: one copy for all of them, and for whoever looks later.

    The file as it was given is kept beside it: with it the run can be made again, on another machine too.

    Raises:
        RunFailed: a picture is another one than was checked.
    """
    for number, given in enumerate(request.inputs.pictures):
        film = given.frames is not None
        path, original = run_dir.input(number, film), run_dir.original(number, given.path.name)
        original.parent.mkdir(parents=True, exist_ok=True)
        try:
            content = content_of(given)
            how: dict[str, Any] = {"format": "PNG"}
            if film:  # no frame is lost that is like the one before, as in an animated PNG
                picture, *rest = ready_film(given, request.fit(given), request.rendered_frames or 1)
                how = {"format": "TIFF", "compression": "tiff_deflate", "save_all": True, "append_images": rest}
            else:
                picture = ready(given, request.fit(given))
        except UnreadableError as error:
            raise RunFailed(f"{given.setting}={given.path.name}: {error}") from error
        with whole(path) as temporary:
            picture.save(temporary, **how)
        with whole(original) as temporary:
            temporary.write_bytes(content)


def _given(request: Request, run_dir: RunDir) -> tuple[Given, ...]:
    task = task_of(request.config)
    if task is None:
        return ()
    anew = strength(request.config) or 0.0
    return tuple(
        Given(
            "conditions" if task.condition is not None else task.names.get(one.setting, one.setting),
            str(run_dir.input(number, one.frames is not None).absolute()),
            task.condition is not None or (task.most > 1 and one.setting == "image"),
            task.condition,
            last=one.setting == "last_image",
            anew=anew if one.frames is not None else 0.0,
        )
        for number, one in enumerate(request.inputs.pictures)
    )


def _loras(config: LaunchConfig) -> tuple[LoraFile, ...]:
    return tuple(
        LoraFile(str(path), path.stat().st_mtime_ns, one.scale, one.name)
        for one in loras(config.lora)
        for path in (lora_files.file(one.path),)
    )


def _replaced(model: ModelConfig) -> Iterator[PartFile]:
    absent = replaced.absent(model)
    for name, text in replaced.given(model).items():
        key = replaced.setting(model, name)
        if (wanted := absent.get(name)) is not None:
            yield PartFile(name, wanted.inside, 0, key, wanted.repository, wanted.revision, wanted.patterns)
            continue
        changed = max(path.stat().st_mtime_ns for path in replaced.files(text))
        yield PartFile(name, str(replaced.place(text)), changed, key)


def _of_a_picture(config: Config) -> Config:
    """The part of a configuration that a picture's own recipe has: not where it was written to, nor read from,
    nor how many groups of ranks were at work, nor what for, nor who took its options.

    So a run that is made again from the files that it kept makes the same bytes.
    """
    output = config["output"]
    assert isinstance(output, dict)
    given = {name: text for name in PICTURES if isinstance(text := config[name], str)}
    names = {name: ",".join(Path(item).name for item in listed(text)) for name, text in given.items()}
    named = {name: f"[{text}]" if len(listed(given[name])) > 1 else text for name, text in names.items()}
    kept = {key: value for key, value in config.items() if key not in ("data", "objective", "memory")}
    return kept | named | {"output": {key: value for key, value in output.items() if key != "dir"}}
