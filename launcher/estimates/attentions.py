"""What a layer of a request attends to, as attention_backends/cost.py takes it."""

from __future__ import annotations

from attention_backends import workload
from attention_backends.catalog import MODES
from attention_backends.layout import Layout
from launcher.request.request import MAX_RANKS, Request

ELEMENT_SIZE = {"float32": 4, "bfloat16": 2, "float16": 2}


def countable(request: Request) -> bool:
    """Whether the numbers allow estimates; where they do not, rules say what is wrong."""
    model = request.config.model
    numbers = [model.heads, model.head_dim, model.layers, *request.streams.values()]
    numbers += [model.vae_width, model.vae_patch]
    mesh, asked = request.mesh, request.processes
    whole = mesh.whole and mesh.ranks <= MAX_RANKS and asked in (None, mesh.ranks)
    return whole and all(1 <= number < 1 << 62 for number in numbers) and 0 < model.vae_tensors < 1 << 62


def kinds(request: Request) -> list[tuple[int, workload.Meanwhile]]:
    """How many layers there are of each kind, and what of theirs runs while something travels.

    A query's projection has d^2 weights, an MLP and its part of the last projection 4 d^2 each, two FLOPs a weight.
    What is compiled runs in its own order.
    """
    model = request.config.model
    if model.single_layers is None or request.config.compile != "none" or not MODES[request.mode].overlaps:
        return [(model.layers, workload.NOTHING)]
    single, square = min(model.single_layers, model.layers), 2.0 * (model.heads * model.head_dim) ** 2
    found = [
        (model.layers - single, workload.Meanwhile(square)),
        (single, workload.Meanwhile(square, 4 * square, 4 * square)),
    ]
    return [(count, meanwhile) for count, meanwhile in found if count]


def attentions(request: Request, meanwhile: workload.Meanwhile = workload.NOTHING) -> list[workload.Attention]:
    """What is attended to over ranks in a layer: all streams in one sequence, or the text by itself after the rest.

    Text that every rank holds whole moves nowhere and is left out. A mask is expanded to all heads and in the model's
    dtype (LTX).
    """
    held, model = request.tokens_per_rank, request.config.model
    text = Layout(tuple(rank.get("text", 0) for rank in held))
    drawn = Layout(tuple(sum(rank.values()) - own for rank, own in zip(held, text.lengths, strict=True)))
    size = ELEMENT_SIZE.get(request.dtype, 4)

    def one(queries: Layout, keys: Layout, key_mask: int = 0) -> workload.Attention:
        return workload.Attention(
            queries,
            keys,
            workload.Shape(model.heads, model.head_dim, batch=request.batch, element_size=size),
            request.mesh.ring,
            request.mesh.ulysses,
            request.schedule or "gather",
            key_mask=key_mask,
            mask_per_head=True,
            shares=request.shares,
            meanwhile=meanwhile,
        )

    if model.cross_attention:
        return [one(drawn, drawn), *([one(drawn, text, size if request.masked else 0)] if text.total else [])]
    both = Layout(tuple(sum(rank.values()) for rank in held))
    return [one(both, both)]
