"""A VAE that decodes in tiles, and ranks that share them: each decodes those that it is dealt, and rank 0 joins them.

diffusers' own loop goes over the tiles and blends them. It runs on every rank first, with nothing in place of the
decoded tiles, to see them all: so they are dealt by their sizes, and no rank waits for one while there are others to
decode. Rank 0 runs it again with the decoded ones; what came out of it elsewhere is thrown away.
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
    """Have a VAE decode (and encode) in tiles, shared or not, and a batch in slices, as asked, while the block runs."""
    if how == Decoding():
        yield
        return
    by_size = type(vae).__name__ in BY_SIZE
    names = ("use_slicing", *(("use_tiling", *(SIZES if by_size else SIDES)) if how.tile is not None else ()))
    before = {name: getattr(vae, name) for name in names}
    vae.use_slicing = how.slicing or vae.use_slicing
    if how.tile is None:
        pass
    elif by_size:
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
    """Have the ranks of a group share the tiles that a VAE decodes while the block runs: rank 0 gets them all."""
    assert group is not None
    forward = vars(vae.decoder).get("forward")
    shared = _Shared(vae, group)
    vae.decode, vae.decoder.forward = shared.decode, shared.tile
    try:
        yield
    finally:
        del vae.decode
        if forward is None:
            del vae.decoder.forward
        else:
            vae.decoder.forward = forward


class _Shared:
    """A VAE's own loop over its tiles, run once to see them, and on rank 0 once more when all are decoded."""

    def __init__(self, vae: Any, group: dist.ProcessGroup) -> None:
        self.vae, self.group, self.rank = vae, group, group.rank()
        self._own, self._channels = vae.decoder.forward, vae.config.out_channels
        self._seen: list[tuple[torch.Tensor, tuple[Any, ...], dict[str, Any]]] = []
        self._decoded: Iterator[torch.Tensor] | None = None

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """Decode with the others."""
        self._seen, self._decoded = [], None
        unseen = type(self.vae).decode(self.vae, *args, **kwargs)
        tiles = self._together()
        if self.rank > 0:
            return unseen
        self._decoded = iter(tiles)
        return type(self.vae).decode(self.vae, *args, **kwargs)  # by its class, which reading its weights changes

    def tile(self, tile: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """In place of the decoder: note a tile, or hand over what came of it."""
        if self._decoded is not None:
            return next(self._decoded)
        self._seen.append((tile, args, kwargs))
        return tile.new_zeros(tile.shape[0], self._channels, *tile.shape[2:])  # as small as can be joined and shown

    def _together(self) -> list[torch.Tensor]:
        """All tiles, decoded; on other ranks than the first nothing in particular."""
        owners = owners_of([tile.numel() for tile, _, _ in self._seen], self.group.size())
        done: dict[int, torch.Tensor] = {}
        sent = []  # under way, with what is being sent
        for number, (tile, args, kwargs) in enumerate(self._seen):
            if owners[number] == self.rank:
                own = self._own(tile, *args, **kwargs)
                if self.rank == 0:
                    done[number] = own
                else:
                    sent.append(_send(own, self.group))
        if self.rank == 0:
            for number, (tile, _, _) in enumerate(self._seen):
                if owners[number] > 0:
                    done[number] = _receive(owners[number], tile, self.group)
        for works, _ in sent:
            exchange.wait(works)
        return [done[number] for number in sorted(done)]


def owners_of(sizes: list[int], ranks: int) -> list[int]:
    """The rank that decodes each tile: the largest first, each to the one that has least, rank 0 last, which joins."""
    owners, loads = [0] * len(sizes), [0] * ranks
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        owners[number] = min(range(ranks), key=lambda rank: (loads[rank], -rank))
        loads[owners[number]] += sizes[number]
    return owners


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
