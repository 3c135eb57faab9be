"""Loading a pipeline so that every weight comes from its files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from launcher.wire.protocol import Load


def fetch(load: Load) -> str:
    """Return the folder with a pipeline's files, which are fetched from the hub where they are not here."""
    if Path(load.path).is_dir():
        return load.path
    pipeline = getattr(diffusers, load.pipeline)
    folder: str = pipeline.download(load.path, revision=load.revision, variant=load.variant, use_safetensors=True)
    return folder


def load_pipeline(load: Load, folder: str) -> Any:
    """Load a pipeline, on the CPU, from the folder that `fetch` returned.

    diffusers and transformers make up what a file lacks, the one with no data and the other with random numbers, and
    mention it in a warning: a renamed tensor in a text encoder would draw another picture than was asked for.

    Raises:
        ValueError: files lack weights, or have some of other sizes; the message names the part and the weights.
    """
    pipeline, dtype = getattr(diffusers, load.pipeline), getattr(torch, load.dtype)
    source = {"use_safetensors": True}  # never a pickle
    lacking: dict[str, list[str]] = {}
    parts: dict[str, Any] = {}
    for name, entry in pipeline.load_config(folder).items():
        if _is_transformers_model(entry):
            kind = getattr(transformers, entry[1])
            parts[name], found = kind.from_pretrained(
                folder,
                subfolder=name,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named below; its own error points to a table in a log
                variant=_variant(folder, name, load),
                **source,
            )
            for key, stored, wanted in found["mismatched_keys"]:
                shapes = f"{tuple(stored)} in its file, and its config.json asks for {tuple(wanted)}"
                raise ValueError(f"{name} does not fit its configuration: {key} is {shapes}")
            lacking[name] = sorted(found["missing_keys"])
    pipe = pipeline.from_pretrained(folder, torch_dtype=dtype, variant=load.variant, **source, **parts)
    for name, part in pipe.components.items():
        if isinstance(part, diffusers.ModelMixin):
            lacking[name] = [weight for weight, value in part.named_parameters() if value.is_meta]
    for name, weights in lacking.items():
        if weights:
            more = f" and {len(weights) - 3} more" if len(weights) > 3 else ""
            raise ValueError(f"the files of {name} lack its weights {', '.join(weights[:3])}{more}")
    return pipe


def _variant(folder: str, part: str, load: Load) -> str | None:
    """The variant of a part's weights: the pipeline's, where the part has it, as diffusers itself decides."""
    names = os.listdir(Path(folder, part)) if load.variant is not None else []
    return load.variant if any(f".{load.variant}." in name for name in names) else None


def _is_transformers_model(entry: Any) -> bool:
    """Whether an entry of model_index.json, [library, class], has weights that transformers loads."""
    kind = getattr(transformers, entry[1], None) if isinstance(entry, list) and entry[0] == "transformers" else None
    return isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
