"""Settings that are one of a few words, and text."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from attention_backends.catalog import KERNELS, MODES, NOT_SUPPORTED, SCHEDULES, TRANSPORTS
from launcher import compiling, offloading, quantizing
from launcher.config.names import MEANT
from launcher.problems import Problem, nearest
from launcher.records.film import CODECS
from launcher.records.formats import FORMATS, METADATA
from launcher.request.request import Request
from launcher.rules.rule import rule

IMPLEMENTATIONS = ("own", "diffusers")
BRANCHES = ("calls", "batch")
CLUSTERS = ("none", "env", "slurm")
BATCHES = ("same", "any", "masked")
OBJECTIVES = ("latency", "throughput")
TRACKERS = ("none", "tensorboard", "mlflow", "wandb")
DTYPES = ("auto", "float32", "bfloat16", "float16")


@rule
def words(request: Request) -> Iterator[Problem]:
    """Settings that are one of a few words."""
    runtime, output, model = request.config.runtime, request.config.output, request.config.model
    given = {
        "cp.mode": (request.config.cp.mode, ("auto", *MODES), "cp="),
        "cp.implementation": (request.config.cp.implementation, IMPLEMENTATIONS, "cp.implementation="),
        "cp.schedule": (request.config.cp.schedule, SCHEDULES, "cp.schedule="),
        "cp.transport": (request.config.cp.transport, TRANSPORTS, "cp.transport="),
        "attention.kernel": (request.config.attention.kernel, tuple(KERNELS), "attention.kernel="),
        "runtime.device": (runtime.device, ("auto", "cpu", "cuda"), "runtime.device="),
        "runtime.dtype": (runtime.dtype, DTYPES, "runtime.dtype="),
        "runtime.offload": (runtime.offload, offloading.WAYS, "runtime.offload="),
        "runtime.weights": (runtime.weights, ("auto", "replicated", "sharded"), "runtime.weights="),
        "output.format": (output.format, ("auto", *FORMATS), "output="),
        "output.codec": (output.codec or next(iter(CODECS)), tuple(CODECS), "output.codec="),
        "output.metadata": (output.metadata, METADATA, "output.metadata="),
        "cluster.name": (request.config.cluster.name, CLUSTERS, "cluster="),
        "objective": (request.config.objective, OBJECTIVES, "objective="),
        "memory": (request.config.memory, ("typed", "auto"), "memory="),
        "compile": (request.config.compile, compiling.WAYS, "compile="),
        "quantization": (request.config.quantization, quantizing.WAYS, "quantization="),
        "tracker.name": (request.config.tracker.name, TRACKERS, "tracker="),
        "model.text": (model.text, ("padded", "prompt", "whole", "joined"), "model.text="),
        "model.batch": (model.batch or "same", BATCHES, "model.batch="),
        "model.guidance_branches": (model.guidance_branches or "calls", BRANCHES, "model.guidance_branches="),
    }
    for key, (word, legal, key_to_type) in given.items():
        if key == "attention.kernel" and word in NOT_SUPPORTED:
            yield Problem(
                f"{key}={word}", NOT_SUPPORTED[word].replace("kernel=", "attention.kernel="), "type attention=auto"
            )
        elif word not in legal:
            best = MEANT.get(key, {}).get(word.lower()) or (nearest(word, legal, 1) or legal)[0]
            yield Problem(
                f"{key}={word}", f"unknown option; choose from {', '.join(legal)}", f"type {key_to_type}{best}"
            )


@rule
def objective(request: Request) -> Iterator[Problem]:
    """An objective decides the number of groups, or the mode of each: one of them is left to it."""
    config = request.config
    if config.objective == "throughput" and config.data not in (None, "auto") and config.cp.mode != "auto":
        what = f"data={config.data} and cp={config.cp.mode} leave it nothing to decide"
        yield Problem("objective=throughput", what, "leave it out, or type data=auto")


@rule
def prompts(request: Request) -> Iterator[Problem]:
    """Prompts are text: tokenizers, records and pictures take no lone surrogates, which stand for broken bytes."""
    file, typed = request.config.prompt_file, "type it in a UTF-8 terminal, or use prompt_file=FILE"
    name, instead = ("prompt", typed) if file is None else (f"prompt_file={file}", "save it as UTF-8 text")
    given = {name: (" ".join(request.prompts), instead), "negative_prompt": (request.config.negative_prompt, typed)}
    for key, (text, instead) in given.items():
        if any("\ud800" <= char <= "\udfff" for char in text or ""):
            yield Problem(key, "not UTF-8 text", instead)


@rule
def tracker(request: Request) -> Iterator[Problem]:
    """A tracker's package is here, before anything is drawn."""
    name = request.config.tracker.name
    if name in TRACKERS[1:] and importlib.util.find_spec(name) is None:
        yield Problem(
            f"tracker={name}", f"needs the package {name}, which is not installed", f"type pip install {name}"
        )
    if not request.config.tracker.project.strip():
        yield Problem("tracker.project=", "must have a name", "type tracker.project=NAME, or leave it out")
