"""What a rank does with a job: load the pipeline once, share the sequence, denoise, decode, save."""

from __future__ import annotations

import contextlib
import inspect
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image

from launcher.records.files import sha256
from launcher.records.formats import FORMATS
from launcher.records.picture import save
from launcher.records.record import File, at_commit
from launcher.wire.channel import STORE_VARIABLE
from launcher.wire.protocol import Checked, Done, Job, Load, Message, Saved, Source, Stage, Step
from launcher.worker.check import compare
from launcher.worker.checks import check_tokenizers
from launcher.worker.load import fetch, load_pipeline
from launcher.worker.lora import Lora
from launcher.worker.sharing import shared
from launcher.worker.steps import Steps

Send = Callable[[Message], None]


class Worker:
    """One rank's state between jobs: its device, the process group and the loaded pipeline."""

    def __init__(self, send: Send, rank: int, world_size: int) -> None:
        self.send, self.rank, self.world_size = send, rank, world_size
        self.pipe: Any = None
        self.folder = ""  # that the pipeline was loaded from
        self.loads = 0

    def do(self, job: Job) -> Done:
        """Make a job's pictures."""
        began = time.monotonic()
        torch.set_num_threads(job.threads)
        _reset_peak_memory()
        if self.pipe is None:
            self._load(job.load)
        else:
            self.send(Source(self.folder))
        self.lora.wear(job.lora)
        loaded = time.monotonic()
        seconds = {"load": loaded - began, "denoise": 0.0, "decode": 0.0, "save": 0.0}
        if job.check is not None:
            self._check(job, job.check)
            seconds["check"] = time.monotonic() - loaded
        with self._shared(job):
            digests = tuple(self._picture(job, number, seconds) for number in range(len(job.pictures)))
        times = {stage: round(value, 3) for stage, value in seconds.items()}
        return Done(times, _peak_memory(), digests, self.loads)

    def _shared(self, job: Job) -> contextlib.ExitStack:
        """The ranks share the pipeline's transformers until the stack is closed."""
        with contextlib.ExitStack() as stack:
            for name in job.sharing.transformers:
                stack.enter_context(shared(getattr(self.pipe, name), job.sharing))
            return stack.pop_all()

    def _check(self, job: Job, part: str) -> None:
        self.send(Stage("checking"))
        transformers = [getattr(self.pipe, name) for name in job.sharing.transformers]

        def draw() -> object:
            return self._draw(job, job.prompts[0], job.seed, "latent")

        told = compare(self.pipe, transformers, draw, lambda: self._shared(job), part, job.load.dtype)
        self.send(Checked(told))

    def _draw(self, job: Job, prompt: str, seed: int, output: str) -> Any:
        """Call the pipeline."""
        torch.manual_seed(seed)
        return self.pipe(
            **_accepted(self.pipe, job.call),
            prompt=prompt,
            generator=torch.Generator("cpu").manual_seed(seed),  # the same noise everywhere
            output_type=output,
        )

    def _load(self, load: Load) -> None:
        self.send(Stage("loading"))
        cuda = load.device == "cuda"
        device = torch.device("cpu")
        if cuda:
            local = int(os.environ.get("LOCAL_RANK", "0"))
            device = torch.device("cuda", local % torch.cuda.device_count())  # cp.transport=host: ranks may share one
            torch.cuda.set_device(device)
        if self.world_size > 1:
            nccl = cuda and load.transport != "host" and (load.transport == "nccl" or dist.is_nccl_available())
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if nccl else "gloo",
                store=dist.FileStore(  # type: ignore[attr-defined]
                    os.environ[STORE_VARIABLE], self.world_size
                ),
                rank=self.rank,
                world_size=self.world_size,
                timeout=timedelta(seconds=load.timeout),
            )
        self.folder = fetch(load)
        self.send(Source(self.folder))
        pipe = load_pipeline(load, self.folder)
        check_tokenizers(pipe)
        pipe.set_progress_bar_config(disable=True)
        self.pipe = pipe
        self.lora = Lora(self.pipe)
        if load.offload == "none":
            self.pipe.to(device)
        else:
            self.pipe.enable_model_cpu_offload(device=device)
        self.loads += 1

    def _picture(self, job: Job, number: int, seconds: dict[str, float]) -> str:
        picture = job.pictures[number]
        ended: list[float] = []
        began = time.monotonic()

        def drawn() -> None:
            if not steps.finite:
                raise FloatingPointError(f"the latents are not finite in {_made_with(job)}")
            if self.rank == 0:  # the other ranks are done: their cores are free for decoding
                torch.set_num_threads(min(job.cores, _cores()))
            self.send(Stage("decoding"))
            ended[:] = [time.monotonic()]

        steps = Steps(lambda step: self.send(Step(number, step)), drawn)
        try:
            with steps.of(self.pipe), np.errstate(invalid="raise"):  # NaN would be saved as black
                output = "pil" if self.rank == 0 else "latent"
                result = self._draw(job, job.prompts[picture.prompt], picture.seed, output)
        except FloatingPointError as error:
            if not ended:
                raise
            raise FloatingPointError(f"the decoded picture is not finite in {_made_with(job)}") from error
        decoded = time.monotonic()
        torch.set_num_threads(job.threads)
        if self.rank == 0:  # the first output is what was asked for, under whatever name
            self._save(job, number, result[0] if job.frames is None else result[0][0][: job.frames])
        seconds["denoise"] += ended[0] - began
        seconds["decode"] += decoded - ended[0]
        seconds["save"] += time.monotonic() - decoded
        return steps.digest()

    def _save(self, job: Job, number: int, frames: list[Image.Image]) -> None:
        self.send(Stage("saving"))
        picture = job.pictures[number]
        path = Path(job.folder) / picture.file
        frames = [frame.crop(job.crop) for frame in frames]
        recipe = job.recipe.of(job.prompts[picture.prompt], picture.seed)
        recipe = replace(recipe, config=at_commit(recipe.config, self.folder))
        save(frames, path, recipe, FORMATS[job.format], job.fps)
        file = File(
            file=path.name,
            sha256=sha256(path),
            bytes=path.stat().st_size,
            height=frames[0].height,
            width=frames[0].width,
            seed=picture.seed,
            prompt=picture.prompt,
            frames=None if job.frames is None else len(frames),
            fps=None if job.frames is None else job.fps,
        )
        self.send(Saved(number, file))


def _made_with(job: Job) -> str:
    """What numbers may have become too large for, in words."""
    if job.lora is None:
        return job.load.dtype
    return f"{job.load.dtype} with the LoRA {Path(job.lora.path).name} at scale {job.lora.scale:g}"


def _accepted(pipe: Any, call: dict[str, object]) -> dict[str, Any]:
    """The call's arguments; one that the pipeline does not take is an error, not ignored."""
    known = inspect.signature(pipe.__call__).parameters
    if unknown := sorted(set(call) - set(known)):
        raise TypeError(f"{type(pipe).__name__} takes no {', '.join(unknown)}")
    return call


def _cores() -> int:
    """Cores that this rank may run on: those of one NUMA node, perhaps."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _reset_peak_memory() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        with contextlib.suppress(OSError):  # a hardened container may forbid it: then the peak is the process's
            Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is used now: proc(5)


def _peak_memory() -> int:
    """Bytes that this rank held at most since the job began: of the GPU if it uses one, else of main memory."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_reserved()
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
