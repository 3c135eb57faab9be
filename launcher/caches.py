"""Caches of steps: what of a denoising step is taken from an earlier one in place of being computed.

They change the picture. diffusers has the hooks (`enable_cache`); here are their names, and the settings of each.
Without torch: rules ask here before a start, and ranks are told a `Cache`.
"""

from __future__ import annotations

from dataclasses import dataclass

NONE = "none"
# What each takes, with diffusers' own defaults; None: it follows from the request.
SETTINGS: dict[str, dict[str, float | int | None]] = {
    NONE: {},
    "first_block": {"threshold": 0.05},
    "mag": {"threshold": 0.06, "warmup": None, "ratios": None},
    "taylorseer": {"interval": 5, "warmup": 3, "order": 1},
    "faster": {"interval": 2},
    "pab": {"interval": 2},
}
# What a pipeline must have for one: it tells the two calls of guidance apart, or in which step it is.
NEEDS = {
    "first_block": "cache_context",
    "mag": "cache_context",
    "taylorseer": "cache_context",
    "faster": "current_timestep",
    "pab": "current_timestep",
}
FASTER_TIMESTEPS = (-1, 681)  # of 1000, between which attention goes on as it went before: diffusers' own
FASTER_WEIGHT = 0.5  # how much of its last change is added: diffusers' own
PAB_TIMESTEPS = (100, 800)  # of 1000, between which attention is taken from before: diffusers' own
WARM = 0.2  # of the steps, that mag computes at first: diffusers' own
HELD = {"first_block": 3, "mag": 1}  # copies of this rank's hidden states that a cache holds
HELD_BY_LAYERS = {"taylorseer": 1, "faster": 2, "pab": 1}  # and those of each layer; of taylorseer one for each order


@dataclass(frozen=True)
class Cache:
    """Which cache, with everything filled in.

    Args:
        name: of SETTINGS.
        threshold: of the change below which blocks are skipped (first_block), or of the error that may add up (mag).
        interval: steps of which one is computed. warmup: steps at the beginning that are all computed.
        order: of the Taylor polynomial. ratios: of the magnitudes of what all blocks add in two steps that follow each
            other, from the first step on.
        steps: of each picture.
    """

    name: str = NONE
    threshold: float | None = None
    interval: int | None = None
    warmup: int | None = None
    order: int | None = None
    ratios: tuple[float, ...] = ()
    steps: int = 0

    @property
    def on(self) -> bool:
        """Whether anything is cached."""
        return self.name != NONE
