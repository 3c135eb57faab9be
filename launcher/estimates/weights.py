"""Bytes of the weights that a rank holds: by their files' headers or the model's facts.

Of the parts that the rank holds: launcher/holding.py. With runtime.weights=sharded a share of the transformer's, and
two of its blocks, in three or four copies, with the buffers; with quantization= a byte, or half a one, of each of the
transformer's.
"""

from __future__ import annotations

from dataclasses import replace

from launcher import offloading, quantizing
from launcher.estimates.attentions import ELEMENT_SIZE
from launcher.families.replaced import quantised
from launcher.holding import DECODES_BETWEEN_STEPS, encodes, on_first_rank
from launcher.request.request import Request


def held_parts(request: Request, rank: int) -> dict[str, int]:
    """Bytes of the weights of each part of the pipeline that a rank holds; empty where they are not known."""
    held = {name: count * ELEMENT_SIZE.get(request.dtype, 4) for name, count in parameters(request).items()}
    if (packed := quantised(request.config.model)) is not None:
        held["transformer"] = packed
    if (each := quantizing.BYTES.get(request.config.quantization)) is not None:
        held |= {name: int(parameters(request)[name] * each) for name in worked_on_by_all(request, held)}
    if request.weights == "sharded":
        held |= {name: -(-held[name] // request.mesh.ranks) for name in worked_on_by_all(request, held)}
    if rank == 0:
        return held
    decodes = request.decoding.shared or bool(request.inputs.pictures)
    decodes = decodes or request.config.model.pipeline in DECODES_BETWEEN_STEPS
    return {name: size for name, size in held.items() if not on_first_rank(name) or (decodes and not encodes(name))}


def parameters(request: Request) -> dict[str, int]:
    """Parameters of each part of the pipeline: by its files if they are here, else the facts in the model's file."""
    if request.inputs.checkpoint.parameters:
        return request.inputs.checkpoint.parameters
    model = request.config.model
    stated = {"transformer": model.transformer_params, "text": model.text_params, "vae": model.vae_params}
    return {name: count for name, count in stated.items() if count is not None}


def gathered(request: Request) -> int:
    """Bytes of sharded weights that are whole on a rank at once: a block that computes and the next one.

    Each comes in one buffer and is copied out of it, as FSDP2 does; gloo has a copy of its own (seen on a CPU).
    """
    if request.weights != "sharded":
        return 0
    return (4 if request.device == "cpu" else 3) * sharded_bytes(request) // max(2, request.config.model.layers)


def sharded_bytes(request: Request) -> int:
    """Bytes of the transformer that computes a step, whole."""
    counts = parameters(request)
    parts = worked_on_by_all(request, counts)
    return max((counts[name] for name in parts), default=0) * ELEMENT_SIZE.get(request.dtype, 4)


def worked_on_by_all(request: Request, held: dict[str, int]) -> set[str]:
    """The parts whose work, and with sharded weights whose weights, all ranks share."""
    return {"transformer", *request.config.model.transformers} & set(held)


def mapped(request: Request) -> set[str]:
    """The parts whose files are in the dtype that is asked for: their pages become the weights.

    Not of those that a GPU gives back to main memory, nor of transformers that wait in pinned memory for one.
    """
    config, offload = request.config, request.config.runtime.offload if request.device == "cuda" else offloading.NONE
    if offload == offloading.MODEL:
        return set()
    known = {name for name, dtype in request.inputs.checkpoint.dtypes.items() if dtype == request.dtype}
    own = config.quantization != quantizing.NONE or config.model.transformer or offload == offloading.GROUP
    return known - (worked_on_by_all(request, dict.fromkeys(known, 0)) if own else set())


def quantised_files(request: Request) -> dict[str, int]:
    """Bytes of the parts that are quantised while they load, before they are: their files' pages."""
    if request.config.quantization == quantizing.NONE:
        return {}
    counts = parameters(request)
    return {name: counts[name] * ELEMENT_SIZE.get(request.dtype, 4) for name in worked_on_by_all(request, counts)}


def with_weights(request: Request, how: str) -> Request:
    """The same request with weights that are replicated, or sharded."""
    return replace(request, weights=how, ways=())
