"""A cache of steps on a pipeline's transformers for a job, and which steps it stood in for."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)
from diffusers.hooks.faster_cache import _FASTER_CACHE_BLOCK_HOOK
from diffusers.hooks.first_block_cache import _FBC_BLOCK_HOOK, _FBC_LEADER_BLOCK_HOOK
from diffusers.hooks.mag_cache import _MAG_CACHE_BLOCK_HOOK, _MAG_CACHE_LEADER_BLOCK_HOOK
from diffusers.hooks.pyramid_attention_broadcast import _PYRAMID_ATTENTION_BROADCAST_HOOK
from diffusers.hooks.taylorseer_cache import _TAYLORSEER_CACHE_HOOK

from launcher.caches import FASTER_TIMESTEPS, FASTER_WEIGHT, PAB_TIMESTEPS, Cache

logging.getLogger("diffusers.hooks.faster_cache").setLevel(logging.ERROR)  # it warns each time that it is experimental
HOOKS = {
    _FASTER_CACHE_BLOCK_HOOK,
    _FBC_LEADER_BLOCK_HOOK,
    _FBC_BLOCK_HOOK,
    _MAG_CACHE_LEADER_BLOCK_HOOK,
    _MAG_CACHE_BLOCK_HOOK,
    _PYRAMID_ATTENTION_BROADCAST_HOOK,
    _TAYLORSEER_CACHE_HOOK,
}


class Skips:
    """The steps of a picture in which something was not computed, from 1."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.begun = False  # a step of this picture is over
        self._in_this = False

    def note(self) -> None:
        """Something of this step was skipped."""
        self._in_this = True

    def step(self, number: int) -> None:
        """A step is over."""
        if self._in_this:
            self.steps.append(number)
        self._in_this, self.begun = False, True

    def taken(self) -> tuple[int, ...]:
        """The steps of a picture that is drawn; the next one begins."""
        steps, self.steps, self._in_this, self.begun = tuple(self.steps), [], False, False
        return steps


@contextlib.contextmanager
def cached(pipe: Any, transformers: Sequence[str], cache: Cache, dtype: str) -> Iterator[Skips]:
    """Have a pipeline's transformers cache steps while the block runs.

    It is put around what shares their work, whose hooks it finds and goes around.

    Raises:
        ValueError: a transformer has nothing that this cache can skip.
    """
    skips = Skips()
    with contextlib.ExitStack() as stack:
        for name in transformers if cache.on else ():
            transformer = getattr(pipe, name)
            transformer.enable_cache(_config(cache, pipe, getattr(torch, dtype), skips))
            stack.callback(transformer.disable_cache)
            stack.enter_context(_watched(transformer, cache.name, skips))
        yield skips


def forget(pipe: Any, transformers: Sequence[str]) -> None:
    """Begin a picture with nothing of an earlier one."""
    for name in transformers:
        getattr(pipe, name)._reset_stateful_cache()


def _config(cache: Cache, pipe: Any, dtype: torch.dtype, skips: Skips) -> Any:
    if cache.name == "first_block":
        return FirstBlockCacheConfig(threshold=cache.threshold)
    if cache.name == "mag":
        return MagCacheConfig(
            threshold=cache.threshold,
            retention_ratio=(cache.warmup or 0) / cache.steps,
            num_inference_steps=cache.steps,
            mag_ratios=list(cache.ratios),
        )
    if cache.name == "taylorseer":
        return TaylorSeerCacheConfig(
            cache_interval=cache.interval,
            disable_cache_before_step=cache.warmup,
            max_order=cache.order,
            taylor_factors_dtype=dtype,
        )
    if cache.name == "faster":
        return FasterCacheConfig(
            spatial_attention_block_skip_range=cache.interval,
            spatial_attention_timestep_skip_range=FASTER_TIMESTEPS,
            attention_weight_callback=lambda _: FASTER_WEIGHT,
            is_guidance_distilled=True,  # one pass a step: there is no other branch to guess
            # In range before anything was computed, as where a picture is begun with half of the steps, it would fail.
            current_timestep_callback=lambda: pipe.current_timestep if skips.begun else FASTER_TIMESTEPS[1],
        )
    return PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=cache.interval,
        spatial_attention_timestep_skip_range=PAB_TIMESTEPS,
        current_timestep_callback=lambda: pipe.current_timestep,
    )


@contextlib.contextmanager
def _watched(transformer: Any, name: str, skips: Skips) -> Iterator[None]:
    """Note the forwards in which a module that has a hook of the cache was not computed: none of its parts was called.

    A forward of which nothing is computed here is none: another rank computes that branch of guidance.
    """
    hooked = [module for module in transformer.modules() if HOOKS & set(_hooks(module))]
    if not hooked:
        raise ValueError(f"cache={name}: {type(transformer).__name__} has nothing that it can skip")
    computed: set[int] = set()
    ran: list[bool] = []

    def began(*_: object) -> None:
        computed.clear()
        ran.clear()

    def ended(*_: object) -> None:
        if ran and len(computed) < len(hooked):
            skips.note()

    def runs(*_: object) -> None:
        ran.append(True)

    def computes(number: int) -> Any:
        return lambda *_: computed.add(number)

    handles = [transformer.register_forward_pre_hook(began), transformer.register_forward_hook(ended)]
    handles += [part.register_forward_pre_hook(runs) for part in transformer.children()]
    for number, module in enumerate(hooked):
        handles += [part.register_forward_pre_hook(computes(number)) for part in module.children()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hooks(module: Any) -> Sequence[str]:
    return tuple(getattr(getattr(module, "_diffusers_hook", None), "hooks", ()))
