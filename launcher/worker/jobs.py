"""What a rank does with a job: load the pipeline once, share the sequence, denoise, decode, save."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import resource
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

import attention_backends
from attention_backends.catalog import MODES
from launcher.records.files import sha256
from launcher.records.picture import save
from launcher.wire.channel import Message
from launcher.worker.load import load_pipeline
from launcher.worker.lora import Lora

Send = Callable[[Message], None]


class Worker:
    """One rank's state between jobs: its device, the process group and the loaded pipeline."""

    def __init__(self, send: Send, rank: int, world_size: int) -> None:
        self.send, self.rank, self.world_size = send, rank, world_size
        self.pipe: Any = None
        self.loads = 0

    def do(self, job: Message) -> Message:
        """Make a job's pictures.

        Args:
            job: `load` (pipeline, path, revision, dtype, device, offload, timeout, transport), `cp` (mode, ring_degree,
                ulysses_degree, schedule), `kernel`, `lora` (see worker.lora), `threads` and `cores`, `call` (the
                pipeline's arguments), `crop`, `frames` and `fps` (null for pictures), `format` and `pictures` (prompt,
                seed, path, recipe).

        Returns:
            Seconds of each stage, peak memory in bytes, a digest of each picture's final latents, loads so far.
        """
        began = time.monotonic()
        torch.set_num_threads(job["threads"])
        _reset_peak_memory()
        if self.pipe is None:
            self._load(job["load"])
        self.lora.wear(job["lora"])
        loaded = time.monotonic()
        seconds = {"load": loaded - began, "denoise": 0.0, "decode": 0.0, "save": 0.0}
        transformer = self.pipe.transformer
        switched_on = _switch_on(transformer, job["cp"], job["kernel"])
        try:
            digests = [self._picture(job, number, seconds) for number in range(len(job["pictures"]))]
        finally:
            switched_on()
        return {
            "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
            "peak_bytes": _peak_memory(),
            "digests": digests,
            "loads": self.loads,
        }

    def _load(self, load: Message) -> None:
        self.send({"kind": "stage", "name": "loading"})
        cuda = load["device"] == "cuda"
        device = torch.device("cpu")
        if cuda:
            local = int(os.environ.get("LOCAL_RANK", "0"))
            device = torch.device("cuda", local % torch.cuda.device_count())  # cp.transport=host: ranks may share one
            torch.cuda.set_device(device)
        if self.world_size > 1:
            nccl = cuda and load["transport"] != "host" and (load["transport"] == "nccl" or dist.is_nccl_available())
            backend = "cpu:gloo,cuda:nccl" if nccl else "gloo"
            dist.init_process_group(backend, timeout=timedelta(seconds=load["timeout"]))
        self.pipe = load_pipeline(load)
        self.pipe.set_progress_bar_config(disable=True)
        self.lora = Lora(self.pipe)
        if load["offload"] == "none":
            self.pipe.to(device)
        else:
            self.pipe.enable_model_cpu_offload(device=device)
        self.loads += 1

    def _picture(self, job: Message, number: int, seconds: dict[str, float]) -> str:
        picture, steps = job["pictures"][number], job["call"]["num_inference_steps"]
        final: list[torch.Tensor] = []
        ended: list[float] = []
        began = time.monotonic()

        def after_step(pipe: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            self.send({"kind": "step", "picture": number, "step": step + 1})
            if step + 1 == steps:
                final.append(tensors["latents"].detach().float().cpu())
                if not bool(final[0].isfinite().all()):
                    raise FloatingPointError(f"the latents are not finite in {job['load']['dtype']}")
                if self.rank == 0:  # the other ranks are done: their cores are free for decoding
                    torch.set_num_threads(min(job["cores"], _cores()))
                self.send({"kind": "stage", "name": "decoding"})
                ended.append(time.monotonic())
            return {}

        torch.manual_seed(picture["seed"])
        try:
            with np.errstate(invalid="raise"):  # NaN would be saved as black
                result = self.pipe(
                    **_accepted(self.pipe, job["call"]),
                    prompt=picture["prompt"],
                    generator=torch.Generator("cpu").manual_seed(picture["seed"]),  # the same noise everywhere
                    callback_on_step_end=after_step,
                    output_type="pil" if self.rank == 0 else "latent",
                )
        except FloatingPointError as error:
            if not ended:
                raise
            raise FloatingPointError(f"the decoded picture is not finite in {job['load']['dtype']}") from error
        decoded = time.monotonic()
        torch.set_num_threads(job["threads"])
        if self.rank == 0:
            self._save(job, number, result.images if job["frames"] is None else result.frames[0][: job["frames"]])
        seconds["denoise"] += ended[0] - began
        seconds["decode"] += decoded - ended[0]
        seconds["save"] += time.monotonic() - decoded
        return hashlib.sha256(final[0].numpy().tobytes()).hexdigest()

    def _save(self, job: Message, number: int, frames: list[Any]) -> None:
        self.send({"kind": "stage", "name": "saving"})
        picture = job["pictures"][number]
        path = Path(picture["path"])
        frames = [frame.crop(tuple(job["crop"])) for frame in frames]
        save(frames, path, picture["recipe"], job["format"], job["fps"])
        facts = {"file": path.name, "sha256": sha256(path), "bytes": path.stat().st_size}
        facts |= {"height": frames[0].height, "width": frames[0].width}
        facts |= {"seed": picture["seed"], "prompt": picture["prompt"]}
        if job["frames"] is not None:
            facts |= {"frames": len(frames), "fps": job["fps"]}
        self.send({"kind": "saved", "picture": number, "facts": facts})


def _switch_on(transformer: Any, cp: Message, kernel: str) -> Callable[[], None]:
    """Put the parallel mode and the kernel on the transformer; returns what takes them off again."""
    mode = MODES[cp["mode"]]
    if not mode.parallel:
        if kernel == "auto":
            return lambda: None
        transformer.set_attention_backend(kernel)
        return lambda: transformer.reset_attention_backend()
    flags: dict[str, Any] = mode.flags
    attention_backends.enable(
        transformer,
        ring_degree=cp["ring_degree"],
        ulysses_degree=cp["ulysses_degree"],
        kernel=kernel,
        **flags,
        schedule=cp["schedule"],
    )
    return lambda: attention_backends.disable(transformer)


def _accepted(pipe: Any, call: Message) -> Message:
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
