"""Loading a pipeline so that every weight comes from its files."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
import transformers

from launcher.wire.protocol import Load


def load_pipeline(load: Load) -> Any:
    """Load a pipeline, on the CPU.

    diffusers and transformers make up what a file lacks, the one with no data and the other with random numbers, and
    mention it in a warning: a renamed tensor in a text encoder would draw another picture than was asked for.

    Raises:
        ValueError: files lack weights; the message names the part and the weights.
    """
    pipeline, dtype = getattr(diffusers, load.pipeline), getattr(torch, load.dtype)
    source = {"revision": load.revision, "use_safetensors": True}  # never a pickle
    lacking: dict[str, list[str]] = {}
    parts: dict[str, Any] = {}
    for name, entry in pipeline.load_config(load.path, revision=load.revision).items():
        if _is_transformers_model(entry):
            kind = getattr(transformers, entry[1])
            parts[name], found = kind.from_pretrained(
                load.path, subfolder=name, dtype=dtype, output_loading_info=True, **source
            )
            lacking[name] = sorted(found["missing_keys"])
    pipe = pipeline.from_pretrained(load.path, torch_dtype=dtype, **source, **parts)
    for name, part in pipe.components.items():
        if isinstance(part, diffusers.ModelMixin):
            lacking[name] = [weight for weight, value in part.named_parameters() if value.is_meta]
    for name, weights in lacking.items():
        if weights:
            more = f" and {len(weights) - 3} more" if len(weights) > 3 else ""
            raise ValueError(f"the files of {name} lack its weights {', '.join(weights[:3])}{more}")
    return pipe


def _is_transformers_model(entry: Any) -> bool:
    """Whether an entry of model_index.json, [library, class], has weights that transformers loads."""
    kind = getattr(transformers, entry[1], None) if isinstance(entry, list) and entry[0] == "transformers" else None
    return isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
