"""One job, from a resolved request to a run directory: the record, the ranks, what they made."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from launcher.config.schema import LaunchConfig
from launcher.estimates import memory
from launcher.families.call import arguments
from launcher.families.weights import location
from launcher.problems import Interrupted, LauncherError, RunFailed
from launcher.records.picture import SUFFIX
from launcher.records.run_dir import SCHEMA, RunDir, command_line, portable, versions
from launcher.request.geometry import crop_box
from launcher.request.request import Request
from launcher.running.group import GroupKey, RankGroup
from launcher.wire import channel
from launcher.wire.channel import Message

GetRanks = Callable[[GroupKey, RunDir], RankGroup]


class Progress(Protocol):
    """What is told of a job while it runs."""

    def at(self, stage: str) -> None:
        """Rank 0 enters a stage: starting, importing, loading, denoising, decoding, saving."""

    def step(self) -> None:
        """Rank 0 has finished one more denoising step."""

    def tick(self) -> None:
        """Rank 0 is alive; time goes by."""

    def close(self) -> None:
        """The job has ended, in whatever way."""


class Silent:
    """Progress that nobody watches."""

    def at(self, stage: str) -> None: ...
    def step(self) -> None: ...
    def tick(self) -> None: ...
    def close(self) -> None: ...


SILENT = Silent()


def group_key(request: Request) -> GroupKey:
    """Which group of ranks can do this."""
    runtime, model = request.config.runtime, request.config.model
    return GroupKey(
        processes=request.mesh.ranks,
        device=request.device,
        devices=request.devices,
        threads=request.threads,
        timeout=runtime.timeout,
        start_timeout=runtime.start_timeout,
        pipeline=model.pipeline,
        path=location(model),
        revision=model.revision,
        dtype=request.dtype,
        offload=runtime.offload,
        transport=request.config.cp.transport,
    )


def execute(
    request: Request, path: Path, overrides: list[str], get_ranks: GetRanks, progress: Progress = SILENT
) -> dict[str, Any]:
    """Make a job's pictures in the folder `path`.

    Args:
        overrides: the job's settings as its record keeps them.
        get_ranks: gives ranks of a key, warm or new; new ones log to the run's folder.
        progress: is told of stages and steps, and closed at the end.

    Returns:
        The record's last fields: files, seconds, times, peak_bytes, and the folder.

    Raises:
        LauncherError: it failed; run.json says so too.
        Interrupted: a signal came; run.json says `interrupted`.
    """
    run_dir = RunDir(path)
    run_dir.start(_record(request, overrides))
    try:
        return _execute(request, run_dir, get_ranks, progress)
    except (Interrupted, KeyboardInterrupt):
        with contextlib.suppress(FileNotFoundError):  # the folder was removed: there is nothing to tell the truth in
            run_dir.end("interrupted")
        raise
    except LauncherError as error:
        failed = error
    except Exception as error:
        log = run_dir.logs / "launcher.log"
        with contextlib.suppress(OSError):  # no room for it, or no folder
            log.write_text(traceback.format_exc(), encoding="utf-8")
        failed = RunFailed(f"{type(error).__name__}: {error} (log: {log})")
    with contextlib.suppress(FileNotFoundError):
        run_dir.end("failed", error=_without_paths(str(failed), request, path))
    raise failed if path.exists() else RunFailed(f"{failed}; the run's folder was removed while it ran")


def _execute(request: Request, run_dir: RunDir, get_ranks: GetRanks, progress: Progress) -> dict[str, Any]:
    began = time.monotonic()
    job = job_message(request, run_dir)
    files: dict[int, dict[str, Any]] = {}

    def on_event(rank: int, message: Message) -> None:
        if message["kind"] == "saved":
            files[message["picture"]] = message["facts"]
            run_dir.write(files=[files[number] for number in sorted(files)])
        elif rank == 0 and message["kind"] == "stage":
            progress.at(message["name"])
        elif rank == 0 and message["kind"] == "step":
            progress.step()
        elif rank == 0 and message["kind"] == "alive":
            progress.tick()

    try:
        progress.at("starting")
        ranks = get_ranks(group_key(request), run_dir)
        started = time.monotonic()
        done = ranks.run(job, run_dir, on_event)
    except RunFailed as error:
        need = memory.estimate(request)
        if channel.OUT_OF_GPU_MEMORY not in str(error) or need is None:
            raise
        raise RunFailed(f"{error}; about {need.total / memory.GIB:.1f} GiB a rank were estimated") from error
    finally:
        progress.close()
    if any(message["digests"] != done[0]["digests"] for message in done):
        different = [rank for rank, message in enumerate(done) if message["digests"] != done[0]["digests"]]
        raise RunFailed(f"ranks {different} ended with other latents than rank 0: the pictures are not to be trusted")
    times = {"start": round(started - began, 3), **done[0]["seconds"]}
    peaks = [message["peak_bytes"] for message in done]
    made = [files[number] for number in sorted(files)]
    run_dir.end("done", files=made, times=times, peak_bytes=peaks, loads=done[0]["loads"])
    seconds = time.monotonic() - began
    return {"folder": run_dir.path, "files": made, "seconds": seconds, "times": times, "peak_bytes": peaks}


def job_message(request: Request, run_dir: RunDir) -> Message:
    """What the ranks are told; see worker.jobs.Worker.do."""
    config, key = request.config, group_key(request)
    rendered, crop = request.rendered, crop_box(request.rendered, request.requested)
    call = arguments(config, rendered.height, rendered.width, request.rendered_frames)
    pictures = []
    for number, prompt in enumerate(prompt for prompt in request.prompts for _ in range(config.images)):
        seed, name = request.seed + number, f"{number:04d}{SUFFIX[config.output.format]}"
        recipe = {"schema": SCHEMA, "config": _resolved(request, prompt, seed), "crop": crop, "versions": versions()}
        if request.frames is not None:
            recipe["rendered_frames"] = request.rendered_frames
        pictures.append(
            {"prompt": prompt, "seed": seed, "path": str((run_dir.path / name).absolute()), "recipe": recipe}
        )
    cp = {"mode": request.mode, "ring_degree": request.mesh.ring, "ulysses_degree": request.mesh.ulysses}
    return {
        "load": {
            name: getattr(key, name)
            for name in ("pipeline", "path", "revision", "dtype", "device", "offload", "timeout", "transport")
        },
        "cp": {**cp, "schedule": request.schedule or "gather"},
        "kernel": config.attention.kernel,
        "lora": _lora(config),
        "stall_timeout": config.runtime.stall_timeout,
        "threads": request.threads,
        "cores": request.machine.cores,
        "call": call,
        "crop": crop,
        "frames": request.frames,
        "fps": config.fps,
        "format": config.output.format,
        "pictures": pictures,
    }


def _lora(config: LaunchConfig) -> Message | None:
    """What the ranks are told of the LoRA; a file that has changed is another one."""
    if config.lora.path is None:
        return None
    path = Path(config.lora.path).expanduser().absolute()
    return {"path": str(path), "changed": path.stat().st_mtime_ns, "scale": config.lora.scale}


def _without_paths(text: str, request: Request, folder: Path) -> str:
    """An error's words without this machine's folders, for the record."""
    model = Path(location(request.config.model))
    for known, kept in ((folder, folder.name), (model, f".../{model.name}"), (Path.cwd(), "."), (Path.home(), "~")):
        text = text.replace(str(known), kept) if len(str(known)) > 1 else text
    return text


def _resolved(request: Request, prompt: str | None, seed: int) -> dict[str, Any]:
    """The configuration with everything that was left out filled in: with it, the same is made again."""
    config = portable(dataclasses.asdict(request.config))
    config["seed"] = seed
    if prompt is not None:
        config |= {"prompt": prompt, "prompt_file": None, "images": 1}
    config["cp"] = {
        "mode": request.mode,
        "ring_degree": request.mesh.ring,
        "ulysses_degree": request.mesh.ulysses,
        "schedule": request.schedule or "auto",  # which decides nothing in a mode without a ring
        "transport": request.config.cp.transport,
    }
    config["runtime"] |= {"device": request.device, "dtype": request.dtype}
    config["runtime"] |= {"processes": request.mesh.ranks, "threads": request.threads}
    return config


def _record(request: Request, overrides: list[str]) -> dict[str, Any]:
    left, top, right, bottom = crop_box(request.rendered, request.requested)
    gpus = [gpu.name for gpu in request.machine.gpus if gpu.index in request.devices]
    return {
        "command": command_line(overrides),
        "overrides": overrides,
        "config": _resolved(request, None, request.seed),
        "prompts": list(request.prompts),
        "seed": request.seed,
        "size": {
            "requested": dataclasses.asdict(request.requested),
            "rendered": dataclasses.asdict(request.rendered),
            "crop": {"left": left, "top": top, "right": right, "bottom": bottom},
        },
        "frames": {"requested": request.frames, "rendered": request.rendered_frames, "fps": request.config.fps},
        "text_tokens": request.texts,  # null: not known before the start, and tokens_per_rank counts the most
        "tokens_per_rank": request.tokens_per_rank,
        "devices": gpus or [f"cpu ({request.machine.cores} cores)"],
        "versions": versions(),
        "files": [],
    }
