"""A VAE that decodes in tiles, and ranks that share them: each decodes those that it is dealt, and rank 0 joins them.

diffusers' own loop goes over the tiles and blends them. On rank 0 it is given each tile by whoever decoded it; on the
others it runs as well, with nothing in place of the decoded tiles, and what comes out of it is thrown away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from attention_backends import exchange
from launcher.decoding import BY_SIZE, OVERLAP, Decoding

HEADER = 6  # dimensions of a tile that are told at most
SIZES = ("tile_sample_min_size", "tile_latent_min_size", "tile_overlap_factor")
SIDES = tuple(f"tile_sample_{each}_{side}" for each in ("min", "stride") for side in ("height", "width"))


@contextlib.contextmanager
def decoded_by(vae: Any, how: Decoding) -> Iterator[None]:
    """Have a VAE decode (and encode) in tiles, and all ranks share them if they are to, while the block runs."""
    if how.tile is None:
        yield
        return
    by_size = type(vae).__name__ in BY_SIZE
    before = {name: getattr(vae, name) for name in ("use_tiling", *(SIZES if by_size else SIDES))}
    if by_size:
        scale = 2 ** (len(vae.config.block_out_channels) - 1)
        vae.tile_sample_min_size, vae.tile_latent_min_size = how.tile, how.tile // scale
        vae.tile_overlap_factor = 1 / OVERLAP
        vae.enable_tiling()
    else:
        stride = how.tile - how.tile // OVERLAP
        vae.enable_tiling(
            tile_sample_min_height=how.tile,
            tile_sample_min_width=how.tile,
            tile_sample_stride_height=stride,
            tile_sample_stride_width=stride,
        )
    try:
        with dealt(vae, dist.group.WORLD) if how.shared else contextlib.nullcontext():
            yield
    finally:
        for name, value in before.items():
            setattr(vae, name, value)


@contextlib.contextmanager
def dealt(vae: Any, group: dist.ProcessGroup | None) -> Iterator[None]:
    """Have the ranks of a group decode one tile each in turn while the block runs: rank 0 gets them all."""
    assert group is not None
    decoder, channels = vae.decoder, vae.config.out_channels
    own, decode = vars(decoder).get("forward"), decoder.forward
    rank, world = group.rank(), group.size()
    tiles = 0
    sent: list[Any] = []  # under way, with what is being sent

    def forward(tile: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal tiles
        owner, tiles = tiles % world, tiles + 1
        if owner == rank:
            done: torch.Tensor = decode(tile, *args, **kwargs)
            if rank == 0:
                return done
            sent.append(_send(done, group))
        elif rank == 0:
            return _receive(owner, tile, group)
        return tile.new_zeros(tile.shape[0], channels, *tile.shape[2:])  # as small as can be joined and shown

    decoder.forward = forward
    try:
        yield
        for works, _ in sent:
            exchange.wait(works)
    finally:
        if own is None:
            del decoder.forward
        else:
            decoder.forward = own


def _send(done: torch.Tensor, group: dist.ProcessGroup) -> Any:
    told = torch.zeros(HEADER, dtype=torch.int64)
    told[: done.ndim] = torch.tensor(done.shape)
    done = done.contiguous()
    works = [*exchange.post([(0, told)], [], group), *exchange.post([(0, done)], [], group)]
    return works, (told, done)


def _receive(owner: int, tile: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
    """A decoded tile, of the dtype and on the device of the one that it is decoded from."""
    told = torch.zeros(HEADER, dtype=torch.int64)
    exchange.wait(exchange.post([], [(owner, told)], group))
    done = tile.new_empty([size for size in told.tolist() if size])
    exchange.wait(exchange.post([], [(owner, done)], group))
    return done
