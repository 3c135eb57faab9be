"""Decoding in tiles or one by one: a VAE that can, a tile that fits it, and a picture that is larger than one."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.decoding import OVERLAP, SHARED, TILED
from launcher.families import sources
from launcher.problems import Problem
from launcher.request.request import Request
from launcher.rules import batches
from launcher.rules.numbers import MAX_SIDE
from launcher.rules.rule import rule

LEAVE = "leave it out"


@rule
def slices(request: Request) -> Iterator[Problem]:
    """There is a batch to slice, and a VAE that can."""
    if not request.config.vae.slicing:
        return
    kind = sources.part_of(request.config.model.pipeline, "vae")
    if kind not in TILED:
        yield _untried("vae.slicing=true", request)
    elif request.config.batch == 1:
        instead = " or ".join(filter(None, [batches.larger(request), LEAVE]))
        yield Problem("vae.slicing=true", "each picture is decoded alone with batch=1", instead)


def _untried(value: str, request: Request) -> Problem:
    pipeline = request.config.model.pipeline
    named = sources.part_of(pipeline, "vae") or f"the VAE of {pipeline}"
    return Problem(value, f"was not tested with {named}; tested: {', '.join(TILED)}", LEAVE)


@rule
def tiles(request: Request) -> Iterator[Problem]:
    """Each setting acts: there is more than one tile, and ranks to share them."""
    asked, model = request.config.vae, request.config.model
    kind = sources.part_of(model.pipeline, "vae")
    if not asked.tiling:
        instead = f"type vae.tiling=true, or {LEAVE}" if kind in TILED else LEAVE
        if asked.tile is not None:
            yield Problem(f"vae.tile={asked.tile}", "the VAE decodes all at once", instead)
        if asked.shared:
            yield Problem("vae.shared=true", "ranks are dealt tiles, and the VAE decodes all at once", instead)
        return
    if kind not in TILED:
        yield _untried("vae.tiling=true", request)
        return
    tile, unit = request.tile, OVERLAP * max(1, model.vae_scale)
    if tile < unit or tile > MAX_SIDE or tile % unit:
        near = max(unit, min(MAX_SIDE, round(tile / unit) * unit))
        yield Problem(f"vae.tile={tile}", f"must be a multiple of {unit} pixels", f"type vae.tile={near}")
    elif max(request.rendered.height, request.rendered.width) <= tile:
        fitting = max(unit, max(request.rendered.height, request.rendered.width) // 2 // unit * unit)
        what = f"{request.rendered} pixels fit into one tile of {tile}"
        yield Problem("vae.tiling=true", what, f"type vae.tile={fitting}, or {LEAVE}")
    if not asked.shared:
        return
    if kind not in SHARED:
        what = f"{kind} keeps what it computed of a tile's frames for the next ones, so tiles can't be dealt"
        yield Problem("vae.shared=true", what, LEAVE)
    elif request.mesh.ranks == 1:
        alone = request.device == "cuda" and len(request.usable) < 2
        yield Problem("vae.shared=true", "there is one rank", LEAVE if alone else f"type cp=ring_anything, or {LEAVE}")
