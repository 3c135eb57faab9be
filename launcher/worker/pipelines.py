"""The pipeline that a job asks for, made of the parts of the one that is loaded."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers

from launcher.offloading import MODEL
from launcher.wire.jobs import Job
from launcher.worker.offloading import Offload


def pipeline_of(pipe: Any, job: Job, offload: Offload) -> Any:
    """The pipeline of a job: `pipe`, or another one of its parts."""
    if job.pipeline is None or type(pipe).__name__ == job.pipeline:
        return pipe
    kind = getattr(diffusers, job.pipeline)
    known = {**pipe.config, **pipe.components}
    pipe = kind(**{name: known[name] for name in inspect.signature(kind).parameters if name in known})
    if getattr(pipe, "latent_channels", None) == 3:
        pipe.latent_channels = 0  # flux_tiny's: a picture, of three channels too, would be taken for latents
    if job.pipeline == "ChromaInpaintPipeline":  # asks a setting of FLUX's transformer, which Chroma's has not
        pipe.transformer.register_to_config(guidance_embeds=False)
    if job.load.offload == MODEL:  # whose hooks name the order of a pipeline's parts
        offload.put(pipe)
    return pipe
