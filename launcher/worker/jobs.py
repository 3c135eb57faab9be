"""What a rank does with a job: load the pipeline once, share the sequence, denoise, decode, save."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from attention_backends import counters
from launcher.wire.channel import STORE_VARIABLE
from launcher.wire.jobs import Job, Load, Picture
from launcher.wire.messages import Message
from launcher.wire.protocol import Checked, Done, Source, Stage, Step
from launcher.worker import surroundings
from launcher.worker.absent import held
from launcher.worker.caches import cached, forget
from launcher.worker.check import compare
from launcher.worker.checks import check_tokenizers
from launcher.worker.compiling import Compiling
from launcher.worker.decoding import decoded_by
from launcher.worker.embeddings import Embeddings
from launcher.worker.fetching import fetch, hashes
from launcher.worker.given import started_from
from launcher.worker.heap import give_back_what_is_freed, keep_what_is_freed
from launcher.worker.load import load_pipeline
from launcher.worker.lora import Loras
from launcher.worker.offloading import Offload
from launcher.worker.pipelines import pipeline_of
from launcher.worker.questions import Questions
from launcher.worker.saving import saved
from launcher.worker.schedulers import scheduler
from launcher.worker.sharded import shard
from launcher.worker.sharing import Groups, Kept
from launcher.worker.steps import Steps, first_forward
from launcher.worker.store import LauncherStore

Send = Callable[[Message], None]
LOADED = "launcher/loaded"  # in the store, once rank 0 has loaded what it holds


class Worker:
    """One rank's state between jobs: its device, the process group and the loaded pipeline."""

    def __init__(self, send: Send, rank: int, world_size: int, questions: Questions | None = None) -> None:
        self.send, self.rank, self.world_size, self.questions = send, rank, world_size, questions
        self.pipe: Any = None
        self.groups = Groups()
        self.kept = Kept(self.groups)
        self.embeddings = Embeddings(rank, world_size)
        self.folder = ""  # that the pipeline was loaded from
        self.fetched: dict[str, str] = {}  # SHA-256 of the files of parts that the hub has given, as a record has them
        self.loads = 0

    def do(self, job: Job) -> Done:
        """Make a job's pictures."""
        began = time.monotonic()
        torch.set_num_threads(job.threads[self.rank])
        surroundings.reset_peak_memory()
        if self.pipe is None:
            self._load(job.load, job.sharing.transformers)
        else:
            self.send(Source(self.folder))
        self.loras.wear(job.loras)
        self.embeddings.forget_if(job.loras)
        self.pipe.scheduler = scheduler(self.scheduler, job.scheduler)
        self.drawing = pipeline_of(self.pipe, job, self.offload)
        loaded = time.monotonic()
        seconds = {"load": loaded - began, "encode": 0.0, "denoise": 0.0, "decode": 0.0, "save": 0.0}
        if job.check is not None:
            self._check(job, job.check)
            seconds["check"] = time.monotonic() - loaded
        self.steps: list[tuple[float, ...]] = []
        sent = counters().bytes
        skipped: list[tuple[int, ...]] = []
        compiling = Compiling(lambda: self.send(Stage("compiling")))
        with (
            self.kept.shared(self.drawing, job.sharing),
            compiling.timed(),
            decoded_by(getattr(self.drawing, "vae", None), job.decoding),
            cached(self.drawing, job.sharing.transformers, job.cache, job.load.dtype) as self.skips,
        ):
            digests: list[str] = []
            for call in () if job.only_check else _calls(job):
                if call.start == 0:  # prompts that were encoded are kept
                    self.send(Stage("encoding"))
                if job.cache.on:
                    forget(self.drawing, job.sharing.transformers)
                digests += self._draw_call(job, call, seconds)
                skipped.append(self.skips.taken())
            kernel = surroundings.kernel(getattr(self.pipe, job.sharing.transformers[0]))
            kernel = job.sharing.kernel if job.sharing.mode == "none" and job.sharing.kernel != "auto" else kernel
        if job.sharing.compile != "none":  # in the first step
            seconds |= {"compile": compiling.seconds, "denoise": seconds["denoise"] - compiling.seconds}
        return Done(
            seconds={stage: round(value, 3) for stage, value in seconds.items()},
            peak_bytes=surroundings.peak_memory(),
            peak_host_bytes=surroundings.peak_host_memory(),
            sent_bytes=None if job.sharing.implementation == "diffusers" else counters().bytes - sent,
            digests=tuple(digests),
            loads=self.loads,
            kernel=kernel,
            scheduler=surroundings.scheduler(self.pipe),
            environment=surroundings.environment(job.load.device),
            step_seconds=tuple(self.steps) if self.rank == 0 else (),
            skipped_steps=tuple(skipped) if job.cache.on else (),
            held_bytes=held(self.pipe) | self.offload.bytes,
        )

    def _check(self, job: Job, part: str) -> None:
        self.send(Stage("checking"))
        self.kept.end()  # one rank draws alone first
        transformers = [getattr(self.pipe, name) for name in job.sharing.transformers]

        first = [job.pictures[number] for number in _calls(job)[0]]
        draw = functools.partial(self._draw, job, first, "latent")
        one = functools.partial(self._draw, job, first[:1], "latent") if len(first) > 1 else None
        share = functools.partial(self.kept.shared, self.drawing, job.sharing)
        told = compare(self.drawing, transformers, draw, share, part, job.load.dtype, one)
        if told.part == "block":
            self.kept.end()  # of a compiled model it stays on for jobs, and was put on one block alone
        self.send(Checked(told))

    def _draw(self, job: Job, pictures: Sequence[Picture], output: str) -> Any:
        """Call the pipeline for these pictures.

        Several are asked for by a list of prompts, never by a number of pictures for each: then each has a generator of
        its own, and an entry of its own in all that pipelines make of a picture that is given.
        """
        torch.manual_seed(pictures[0].seed)
        self.groups.together = len(pictures)
        call = _accepted(self.drawing, job.call | started_from(self.drawing, job))
        prompts = [job.prompts[picture.prompt] for picture in pictures]
        noise = [torch.Generator("cpu").manual_seed(picture.seed) for picture in pictures]  # the same everywhere
        if len(pictures) == 1:
            with self.embeddings.of(self.drawing):
                return self.drawing(**call, prompt=prompts[0], generator=noise[0], output_type=output)
        each = {"negative_prompt", *(given.argument for given in job.started_from)}
        call = {key: [value] * len(pictures) if key in each else value for key, value in call.items()}
        with self.embeddings.of(self.drawing):
            return self.drawing(**call, prompt=prompts, generator=noise, output_type=output)

    def _load(self, load: Load, transformers: Sequence[str]) -> None:
        self.send(Stage("loading"))
        cuda = load.device == "cuda"
        device = torch.device("cpu")
        if cuda:
            local = int(os.environ.get("LOCAL_RANK", "0"))
            device = torch.device("cuda", local % torch.cuda.device_count())  # cp.transport=host: ranks may share one
            torch.cuda.set_device(device)
        if load.deterministic:
            surroundings.deterministic()
        if self.world_size > 1:
            self.store = self._store(load)  # torch keeps what is behind it, and not the object with its methods
            nccl = cuda and load.transport != "host" and (load.transport == "nccl" or dist.is_nccl_available())
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if nccl else "gloo",
                store=self.store,
                rank=self.rank,
                world_size=self.world_size,
                timeout=timedelta(seconds=load.timeout),
            )
        self.folder, parts = fetch(load, lambda told: self.send(Stage(told)))
        self.fetched = hashes(load, parts)
        self.send(Source(self.folder))
        self.send(Stage("loading"))
        self.offload = Offload(load.offload, device, transformers)
        elsewhere = None if self.rank == 0 else self.offload
        pipe = load_pipeline(dataclasses.replace(load, replaced=parts), self.folder, elsewhere)
        check_tokenizers(pipe)
        pipe.set_progress_bar_config(disable=True)
        self.pipe = pipe
        self.loras = Loras(self.pipe, lambda: self.offload.whole(self.pipe))
        self.scheduler = pipe.scheduler  # as the pipeline has it
        for name in load.sharded:
            assert dist.group.WORLD is not None, "one rank has no weights to share"
            shard(getattr(pipe, name), device, dist.group.WORLD)
        self.offload.put(self.pipe)
        self.loras.fuse(load.fused)
        self.loads += 1
        self._await_first()

    def _await_first(self) -> None:
        """Wait until rank 0, which has most to load, has done so: longer than a collective may take."""
        if self.world_size == 1:
            return
        if self.rank == 0:
            self.store.set(LOADED, "1")
        else:
            self.store.wait([LOADED], timedelta(days=7))  # the launcher ends this rank if rank 0 fails

    def _store(self, load: Load) -> Any:
        """Where ranks find each other: a file on one machine, and what the launcher keeps for several."""
        if self.questions is not None:
            return LauncherStore(self.questions, load.timeout)
        return dist.FileStore(os.environ[STORE_VARIABLE], self.world_size)  # type: ignore[attr-defined]

    def _draw_call(self, job: Job, numbers: range, seconds: dict[str, float]) -> tuple[str, ...]:
        """Make the pictures of one call of the pipeline, and return the digests of their latents."""
        pictures = [job.pictures[number] for number in numbers]
        ended: list[float] = []
        began = time.monotonic()

        def drawn() -> None:
            if not steps.finite:
                raise FloatingPointError(f"the latents are not finite in {_made_with(job)}")
            if self.rank == 0 and not job.decoding.shared:  # the other ranks are done: their cores are free
                torch.set_num_threads(min(job.cores, _cores()))
            if on_cpu:  # tensors of many sizes follow
                give_back_what_is_freed()
            self.send(Stage("decoding"))
            ended[:] = [time.monotonic()]

        def stepped(step: int) -> None:
            moments.mark()
            self.skips.step(step)
            self.send(Step(numbers.start, step))

        on_cpu = job.load.device == "cpu"
        steps, moments = Steps(stepped, drawn), surroundings.Moments()
        try:
            transformers = [getattr(self.pipe, name) for name in job.sharing.transformers]
            seen = steps.of(self.drawing), first_forward(transformers, moments, lambda: self.send(Stage("first step")))
            with seen[0], seen[1] as first, np.errstate(invalid="raise"):  # NaN would be saved as black
                decodes = self.rank == 0 or job.decoding.shared
                output = "latent" if not decodes else "pil" if job.frames is None else "pt"
                try:
                    result = self._draw(job, pictures, output)
                finally:
                    if on_cpu and not (job.load.sharded or job.load.quantized):  # which want little memory in steps too
                        keep_what_is_freed()
                decoded = time.monotonic()
                torch.set_num_threads(job.threads[self.rank])
                if self.rank == 0:
                    for number in numbers:
                        self.send(Stage("saving"))
                        self.send(saved(self.pipe, job, number, result, numbers, self.folder, self.fetched))
        except FloatingPointError as error:
            if not ended:
                raise
            raise FloatingPointError(f"the decoded picture is not finite in {_made_with(job)}") from error
        self.steps.append(moments.seconds())
        seconds["encode"] += first[0] - began
        seconds["denoise"] += ended[0] - first[0]
        seconds["decode"] += decoded - ended[0]
        seconds["save"] += time.monotonic() - decoded
        return steps.digests(len(pictures))


def _calls(job: Job) -> list[range]:
    """The numbers of the pictures that each call of the pipeline draws."""
    ends = list(itertools.accumulate(job.calls or (1,) * len(job.pictures)))
    return [range(start, end) for start, end in itertools.pairwise((0, *ends))]


def _made_with(job: Job) -> str:
    """What numbers may have become too large for, in words."""
    halves = " with cp.cfg_degree=2" if job.sharing.cfg_degree > 1 else ""
    told = [f"{one.name} at scale {one.scale:g}" for one in (*job.load.fused, *job.loras)]
    what = "LoRA" if len(told) == 1 else "LoRAs"
    return job.load.dtype + halves + (f" with the {what} {', '.join(told)}" if told else "")


def _accepted(pipe: Any, call: dict[str, object]) -> dict[str, Any]:
    """The call's arguments; one that the pipeline does not take is an error, not ignored."""
    known = inspect.signature(pipe.__call__).parameters
    if unknown := sorted(set(call) - set(known)):
        raise TypeError(f"{type(pipe).__name__} takes no {', '.join(unknown)}")
    if "use_resolution_binning" in known:  # on by default: another size, the nearest of a list, scaled afterwards
        call = call | {"use_resolution_binning": False}
    return call


def _cores() -> int:
    """Cores that this rank may run on: those of one NUMA node, perhaps."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
