"""One job, from a resolved request to a run directory: the record, the ranks, what they made."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from launcher.config.paths import user_path
from launcher.config.schema import LaunchConfig
from launcher.estimates import memory
from launcher.families.call import arguments
from launcher.families.facts import fact_problems
from launcher.families.tasks import strength, task_of
from launcher.families.weights import location
from launcher.problems import Interrupted, LauncherError, RunFailed
from launcher.reading import UnreadableError
from launcher.records.files import whole
from launcher.records.formats import FORMATS
from launcher.records.hashes import cached_sha256, weights
from launcher.records.record import (
    SCHEMA,
    Check,
    Config,
    Crop,
    File,
    Frames,
    Pixels,
    Recipe,
    Record,
    Sizes,
    StartedFrom,
    Weights,
    at_commit,
)
from launcher.records.run_dir import RunDir, command_line, portable, versions
from launcher.records.surroundings import checkout, machine
from launcher.request.geometry import crop_box
from launcher.request.pictures import ready
from launcher.request.request import Request
from launcher.running.group import GroupKey, RankGroup
from launcher.running.progress import UNSEEN, Progress
from launcher.wire.protocol import (
    OUT_OF_GPU_MEMORY,
    Alive,
    Checked,
    Given,
    Job,
    Load,
    LoraFile,
    Message,
    Picture,
    Saved,
    Sharing,
    Source,
    Stage,
    Step,
)

GetRanks = Callable[[GroupKey, RunDir], RankGroup]


@dataclass(frozen=True)
class Made:
    """What a job left: its run directory, and what run.json there says."""

    folder: Path
    record: Record


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
    )
    return GroupKey(request.mesh.ranks, request.devices, request.threads, runtime.start_timeout, load)


def execute(
    request: Request,
    run_dir: RunDir,
    overrides: list[str],
    get_ranks: GetRanks,
    progress: Progress = UNSEEN,
    only_check: bool = False,
    options: Sequence[str] = (),
) -> Made:
    """Make a job's pictures.

    Args:
        run_dir: where; claimed by the caller.
        overrides: the job's settings as its record keeps them.
        get_ranks: gives ranks of a key, warm or new; new ones log to the run's folder.
        progress: is told of stages and steps, and closed at the end.
        only_check: make none, after the check that the request asks for.
        options: before the settings in the line that asks for the same again.

    Raises:
        LauncherError: it failed; run.json says so too.
        Interrupted: a signal came; run.json says `interrupted`.
    """
    path = run_dir.path
    run_dir.start(_record(request, overrides, options))
    try:
        return _execute(request, run_dir, get_ranks, progress, only_check)
    except (Interrupted, KeyboardInterrupt):
        with contextlib.suppress(OSError):  # the folder was removed: there is nothing to tell the truth in
            run_dir.end("interrupted")
        raise
    except LauncherError as error:
        failed = error
    except BaseException as error:  # SystemExit too: whatever ends a run, its record says so
        log = run_dir.logs / "launcher.log"
        with contextlib.suppress(OSError):  # no room for it, or no folder
            log.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
        kept = log.is_file() and log.stat().st_size > 0
        failed = RunFailed(_words(error, path) + (f" (log: {log})" if kept else ""))
        failed.__cause__ = error
    with contextlib.suppress(OSError):
        run_dir.end("failed", error=_without_paths(str(failed), request, path))
    raise failed if path.exists() else RunFailed(f"{failed}; the run's folder was removed while it ran")


def _words(error: BaseException, folder: Path) -> str:
    """What ended a run, of itself or of the system that it runs on."""
    if isinstance(error, OSError) and error.filename and folder in (place := Path(str(error.filename))).parents:
        return f"the run's folder can't be written: {error.strerror}: {place.name}"
    return f"{type(error).__name__}: {error}"


def _execute(request: Request, run_dir: RunDir, get_ranks: GetRanks, progress: Progress, only_check: bool) -> Made:
    began = time.monotonic()
    files: dict[int, File] = {}
    checks: dict[int, Check] = {}

    def on_event(rank: int, message: Message) -> None:
        if isinstance(message, Saved):
            files[message.picture] = message.file
            run_dir.note(files=tuple(files[number] for number in sorted(files)))
        elif isinstance(message, Checked):
            checks[rank] = message.check
            if len(checks) == request.mesh.ranks:
                _judge(list(checks.values()), request, run_dir)
        elif rank != 0:
            return
        elif isinstance(message, Source):
            # Of a repository that was not here before the start, nothing is known until it was fetched.
            if found := list(fact_problems(request.config.model, Path(message.folder))):
                raise RunFailed("; ".join(map(str, found)))
            if run_dir.record.weights is None:
                run_dir.write(weights=weights(Path(message.folder)))
            if (config := at_commit(run_dir.record.config, message.folder)) != run_dir.record.config:
                run_dir.write(config=config)
        elif isinstance(message, Stage):
            progress.at(message.name)
        elif isinstance(message, Step):
            progress.step()
        elif isinstance(message, Alive):
            progress.tick()

    try:
        progress.at("starting")
        _make_ready(request, run_dir)
        with ThreadPoolExecutor(1) as thread:  # hashes what ranks will load, while they start
            hashed = thread.submit(_weights, request)
            ranks = get_ranks(group_key(request), run_dir)
            known = hashed.result()
        run_dir.write(weights=known)
        job = job_message(request, run_dir, known)
        job = dataclasses.replace(job, pictures=()) if only_check else job
        started = time.monotonic()
        done = ranks.run(job, run_dir, request.config.runtime.stall_timeout, on_event)
    except RunFailed as error:
        need = memory.estimate(request)
        if OUT_OF_GPU_MEMORY not in str(error) or need is None:
            raise
        raise RunFailed(f"{error}; about {need.total / memory.GIB:.1f} GiB a rank were estimated") from error
    finally:
        progress.close()
    if different := [rank for rank, told in enumerate(done) if told.digests != done[0].digests]:
        raise RunFailed(f"ranks {different} ended with other latents than rank 0: the pictures can't be trusted")
    run_dir.end(
        "done",
        times={"start": round(started - began, 3), **done[0].seconds},
        step_seconds=done[0].step_seconds,
        peak_bytes=tuple(told.peak_bytes for told in done),
        peak_host_bytes=tuple(told.peak_host_bytes for told in done),
        sent_bytes=tuple(told.sent_bytes for told in done),
        loads=done[0].loads,
        kernel=done[0].kernel,
        scheduler=done[0].scheduler,
        environment=run_dir.record.environment | done[0].environment,
    )
    return Made(run_dir.path, run_dir.record)


def _weights(request: Request) -> Weights | None:
    """The hashes of the weights that are here; of a repository that has to be fetched nothing is known yet."""
    checkpoint = request.inputs.checkpoint
    if not checkpoint.whole:
        return None
    with contextlib.suppress(OSError):  # which the ranks will tell of
        return weights(Path(checkpoint.source), checkpoint.files)
    return None


def _inputs(request: Request) -> dict[str, str]:
    """The hash of each file that a setting names and that is read as it is."""
    given = {"lora.path": request.config.lora.path}
    found = {name: cached_sha256(user_path(text)) for name, text in given.items() if text is not None}
    for setting, pictures in itertools.groupby(request.inputs.pictures, lambda one: one.setting):
        several = list(pictures)
        for number, one in enumerate(several):
            found[setting if len(several) == 1 else f"{setting}[{number}]"] = one.sha256
    return found


def _make_ready(request: Request, run_dir: RunDir) -> None:
    """Write what the ranks start from into the run's folder: one copy for all of them, and for whoever looks later.

    Raises:
        RunFailed: a picture is another one than was checked.
    """
    for number, given in enumerate(request.inputs.pictures):
        path = run_dir.input(number)
        path.parent.mkdir(exist_ok=True)
        try:
            picture = ready(given, request.fit(given))
        except UnreadableError as error:
            raise RunFailed(f"{given.setting}={given.path.name}: {error}") from error
        with whole(path) as temporary:
            picture.save(temporary, format="PNG")


def _started_from(request: Request) -> tuple[StartedFrom, ...]:
    return tuple(
        StartedFrom(given.setting, given.path.name, given.size.height, given.size.width, request.told_of(given))
        for given in request.inputs.pictures
    )


def _given(request: Request, run_dir: RunDir) -> tuple[Given, ...]:
    task = task_of(request.config)
    several = task is not None and task.most > 1
    return tuple(
        Given(one.setting, str(run_dir.input(number).absolute()), several and one.setting == "image")
        for number, one in enumerate(request.inputs.pictures)
    )


def _judge(checks: list[Check], request: Request, run_dir: RunDir) -> None:
    """Record what the ranks have found, and end the run if they are not close to one rank."""
    worst = max(checks, key=lambda check: (not check.close, check.relative))
    run_dir.write(check=worst)
    if worst.close:
        return
    what = f"cp={request.mode} is off by {worst.relative:.1e} of what one rank predicts in the first step"
    limit = f"the bound in {worst.dtype} is {worst.bound:.0e}"
    sharper = "" if worst.dtype == "float32" else "; runtime.dtype=float32 tells rounding from a mistake"
    raise RunFailed(
        f"check=true: {what}, and {limit}: model.cp_plan or the model's code does not fit this mode; type cp=none for "
        f"pictures that can be trusted{sharper}"
    )


def job_message(request: Request, run_dir: RunDir, weights: Weights | None = None) -> Job:
    """What the ranks are told."""
    config = request.config
    crop = crop_box(request.rendered, request.requested)
    suffix = FORMATS[request.format].suffix
    task = task_of(config)
    numbers = [number for number in range(len(request.prompts)) for _ in range(config.images)]
    pictures = tuple(
        Picture(prompt, request.seed + number, f"{number:04d}{suffix}") for number, prompt in enumerate(numbers)
    )
    return Job(
        folder=str(run_dir.path.absolute()),
        load=group_key(request).load,
        sharing=Sharing(
            mode=request.mode,
            ring_degree=request.mesh.ring,
            ulysses_degree=request.mesh.ulysses,
            schedule=request.schedule or "gather",
            kernel=config.attention.kernel,
            plan=config.model.cp_plan,
            transformers=tuple(config.model.transformers),
            cfg_degree=request.mesh.cfg,
            branches=config.model.guidance_branches or "calls",
        ),
        lora=_lora(config),
        threads=request.threads,
        cores=request.machine.cores,
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
        prompts=request.prompts,
        pictures=pictures,
        recipe=Recipe(
            SCHEMA,
            _of_a_picture(_resolved(request)),
            crop,
            versions(),
            request.rendered_frames,
            weights=weights,
            inputs=_inputs(request),
        ),
        check=None if not config.check else "step" if memory.one_rank_holds(request) else "block",
    )


def _lora(config: LaunchConfig) -> LoraFile | None:
    if config.lora.path is None:
        return None
    path = user_path(config.lora.path)
    return LoraFile(str(path), path.stat().st_mtime_ns, config.lora.scale)


def _without_paths(text: str, request: Request, folder: Path) -> str:
    """An error's words without this machine's folders, for the record."""
    model = Path(location(request.config.model))
    known = {folder.absolute(): folder.name, folder: folder.name, model: f".../{model.name}"}
    with contextlib.suppress(OSError):  # the current folder was removed
        known[Path.cwd()] = "."
    with contextlib.suppress(RuntimeError):  # a user without a home
        known[Path.home()] = "~"
    for place, kept in known.items():
        text = text.replace(str(place), kept) if len(str(place)) > 1 else text
    return text


def _resolved(request: Request) -> Config:
    """The configuration with everything that was left out filled in: with it, the same is made again."""
    config = dataclasses.asdict(request.config) | {"seed": request.seed, "strength": strength(request.config)}
    config["output"]["format"] = request.format
    if request.codec is not None:
        crf = request.codec.crf if request.config.output.crf is None else request.config.output.crf
        config["output"] |= {"codec": request.codec.name, "crf": crf}
    config["cp"] = {
        "mode": request.mode,
        "ring_degree": request.mesh.ring,
        "ulysses_degree": request.mesh.ulysses,
        "cfg_degree": request.mesh.cfg,
        "schedule": request.schedule or "auto",  # which decides nothing in a mode without a ring
        "transport": request.config.cp.transport,
    }
    config["runtime"] |= {"device": request.device, "dtype": request.dtype}
    config["runtime"] |= {"processes": request.mesh.ranks, "threads": request.threads}
    return at_commit(portable(config), request.inputs.checkpoint.source)


def _of_a_picture(config: Config) -> Config:
    """The part of a configuration that a picture's own recipe has: not where it was written to."""
    output = config["output"]
    assert isinstance(output, dict)
    return config | {"output": {key: value for key, value in output.items() if key != "dir"}}


def _record(request: Request, overrides: list[str], options: Sequence[str]) -> Record:
    """The first record of a run."""
    requested, rendered = request.requested, request.rendered
    gpus = tuple(gpu.name for gpu in request.machine.gpus if gpu.index in request.devices)
    return Record(
        schema=SCHEMA,
        status="running",
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command_line(overrides, options),
        overrides=tuple(overrides),
        config=_resolved(request),
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
        inputs=_inputs(request),
        started_from=_started_from(request),
        generator="cpu",
        environment=machine(request.device == "cuda"),
        checkout=checkout(),
    )
