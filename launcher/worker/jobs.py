"""What a rank does with a job: load the pipeline once, share the sequence, denoise, decode, save."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import torch.distributed as dist
from diffusers import attention_backend
from PIL import Image

import attention_backends
from attention_backends.catalog import MODES
from launcher.records.files import sha256
from launcher.records.film import Film
from launcher.records.formats import FORMATS
from launcher.records.picture import save
from launcher.records.record import File
from launcher.wire.channel import STORE_VARIABLE
from launcher.wire.protocol import Done, Job, Load, Message, Saved, Sharing, Source, Stage, Step
from launcher.worker.checks import check_tokenizers
from launcher.worker.decoded import Frames, sound_of
from launcher.worker.load import fetch, load_pipeline
from launcher.worker.lora import Lora

Send = Callable[[Message], None]


class Worker:
    """One rank's state between jobs: its device, the process group and the loaded pipeline."""

    def __init__(self, send: Send, rank: int, world_size: int) -> None:
        self.send, self.rank, self.world_size = send, rank, world_size
        self.pipe: Any = None
        self.loads = 0

    def do(self, job: Job) -> Done:
        """Make a job's pictures."""
        began = time.monotonic()
        torch.set_num_threads(job.threads)
        _reset_peak_memory()
        if self.pipe is None:
            self._load(job.load)
        self.lora.wear(job.lora)
        loaded = time.monotonic()
        seconds = {"load": loaded - began, "denoise": 0.0, "decode": 0.0, "save": 0.0}
        with contextlib.ExitStack() as stack:
            for name in job.sharing.transformers:
                stack.enter_context(shared(getattr(self.pipe, name), job.sharing))
            digests = tuple(self._picture(job, number, seconds) for number in range(len(job.pictures)))
        times = {stage: round(value, 3) for stage, value in seconds.items()}
        return Done(times, _peak_memory(), digests, self.loads)

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
        folder = fetch(load)
        self.send(Source(folder))
        pipe = load_pipeline(load, folder)
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
        picture, steps = job.pictures[number], job.steps
        final: list[torch.Tensor] = []
        ended: list[float] = []
        began = time.monotonic()

        def after_step(pipe: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            self.send(Step(number, step + 1))
            if step + 1 == steps:
                final.append(tensors["latents"].detach().float().cpu())
                if not bool(final[0].isfinite().all()):
                    raise FloatingPointError(f"the latents are not finite in {_made_with(job)}")
                if self.rank == 0:  # the other ranks are done: their cores are free for decoding
                    torch.set_num_threads(min(job.cores, _cores()))
                self.send(Stage("decoding"))
                ended.append(time.monotonic())
            return {}

        torch.manual_seed(picture.seed)
        pipe = self._pipe_of(job)
        shown = "latent" if self.rank != 0 else "pil" if job.frames is None else "pt"
        try:
            with np.errstate(invalid="raise"):  # NaN would be saved as black
                result = pipe(
                    **_accepted(pipe, job.call | _pictures(job)),
                    prompt=job.prompts[picture.prompt],
                    generator=torch.Generator("cpu").manual_seed(picture.seed),  # the same noise everywhere
                    callback_on_step_end=after_step,
                    output_type=shown,
                )
                decoded = time.monotonic()
                torch.set_num_threads(job.threads)
                if self.rank == 0:
                    self._save(job, number, result)
        except FloatingPointError as error:
            if not ended:
                raise
            raise FloatingPointError(f"the decoded picture is not finite in {_made_with(job)}") from error
        seconds["denoise"] += ended[0] - began
        seconds["decode"] += decoded - ended[0]
        seconds["save"] += time.monotonic() - decoded
        return hashlib.sha256(final[0].numpy().tobytes()).hexdigest()

    def _pipe_of(self, job: Job) -> Any:
        """The pipeline that a job asks for, made of the parts that are loaded."""
        if job.pipeline is None or type(self.pipe).__name__ == job.pipeline:
            return self.pipe
        kind = getattr(diffusers, job.pipeline)
        known = {**self.pipe.config, **self.pipe.components}
        pipe = kind(**{name: known[name] for name in inspect.signature(kind).parameters if name in known})
        pipe.set_progress_bar_config(disable=True)
        if getattr(pipe, "latent_channels", None) == 3:
            pipe.latent_channels = 0  # flux_tiny's: a picture, of three channels too, would be taken for latents
        if job.load.offload != "none":
            pipe.enable_model_cpu_offload(device=torch.device("cuda", torch.cuda.current_device()))
        return pipe

    def _save(self, job: Job, number: int, result: Any) -> None:
        self.send(Stage("saving"))
        picture = job.pictures[number]
        path = Path(job.folder) / picture.file
        film, frames = None, Frames(result.images if job.frames is None else result.frames[0][: job.frames], job.crop)
        if job.frames is not None:
            assert job.fps is not None
            film = Film(job.fps, job.codec or "h264", job.crf, sound_of(self.pipe, result))
        recipe = job.recipe.of(job.prompts[picture.prompt], picture.seed)
        save(frames, path, recipe, FORMATS[job.format], film)
        file = File(
            file=path.name,
            sha256=sha256(path),
            bytes=path.stat().st_size,
            height=job.crop[3] - job.crop[1],
            width=job.crop[2] - job.crop[0],
            seed=picture.seed,
            prompt=picture.prompt,
            frames=None if job.frames is None else len(frames),
            fps=None if job.frames is None else job.fps,
        )
        self.send(Saved(number, file))


@contextlib.contextmanager
def shared(transformer: Any, sharing: Sharing) -> Iterator[None]:
    """Have the ranks share the transformer's sequence, by this mode and kernel, while the block runs."""
    mode = MODES[sharing.mode]
    if mode.parallel:
        attention_backends.enable(
            transformer,
            ring_degree=sharing.ring_degree,
            ulysses_degree=sharing.ulysses_degree,
            kernel=sharing.kernel,
            mode=mode.name,
            schedule=sharing.schedule,
            cp_plan=sharing.plan,
        )
        try:
            yield
        finally:
            attention_backends.disable(transformer)
    elif sharing.kernel != "auto":
        with attention_backend(sharing.kernel):  # diffusers' reset leaves the default of all models as it was set
            transformer.set_attention_backend(sharing.kernel)
            try:
                yield
            finally:
                transformer.reset_attention_backend()
    else:
        yield


def _made_with(job: Job) -> str:
    """What numbers may have become too large for, in words."""
    if job.lora is None:
        return job.load.dtype
    return f"{job.load.dtype} with the LoRA {Path(job.lora.path).name} at scale {job.lora.scale:g}"


def _pictures(job: Job) -> dict[str, object]:
    """What a job starts from, by the arguments of its pipeline's call."""
    found: dict[str, Any] = {}
    for given in job.pictures_in:
        with Image.open(given.path) as opened:
            picture = opened.copy()
        if given.several:
            found.setdefault(given.argument, []).append(picture)
        else:
            found[given.argument] = picture
    return found


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
