"""VAEs that decode in tiles, by diffusers' class. Without torch: rules ask here before a start, and ranks are told."""

from __future__ import annotations

from dataclasses import dataclass

BY_SIZE = ("AutoencoderKL", "AutoencoderKLFlux2")  # one number says how large a tile is; others take height and width
# Those whose tiles are decoded by one call each, so that ranks can be dealt them. The others keep what they computed of
# some frames of a tile for the next ones.
SHARED = (*BY_SIZE, "AutoencoderKLHunyuanVideo", "AutoencoderKLLTXVideo")
TILED = (*SHARED, "AutoencoderKLWan", "AutoencoderKLQwenImage")
TILE = 512  # pixels of its side, if nothing is said
OVERLAP = 4  # a tile shares one part in so many of its side with the next one


@dataclass(frozen=True)
class Decoding:
    """How a VAE decodes.

    Args:
        tile: the side of a tile, in pixels; None: all at once. shared: the ranks are dealt the tiles. slicing: a
            batch's pictures come one after another.
    """

    tile: int | None = None
    shared: bool = False
    slicing: bool = False
