"""A FirstBlockCache on ranks whose parts change unlike: they skip together, and draw what one process draws."""

from __future__ import annotations

import os
from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist

import attention_backends
from attention_backends.wire import RankFailedError

ANY = {"ring_degree": 3, "unified_anything": True}
STEPS = 8
THRESHOLDS = {"half": 0.5, "all": 0.0, "none": 100.0}


def steps(model: Any, inputs: dict[str, Any], forward: Any = None) -> list[torch.Tensor]:
    """Forwards whose hidden states change in their first half only, now little and now more."""
    outputs, hidden = [], inputs["hidden_states"].clone()
    random = torch.Generator().manual_seed(3)
    half = max(1, hidden.shape[1] // 2)
    for step in range(STEPS):
        told = {"hidden_states": hidden.clone(), "timestep": torch.full((1,), 1 - step / 100, dtype=torch.float64)}
        with model.cache_context("cond"), torch.no_grad():
            outputs.append((model if forward is None else forward)(**inputs | told)[0])
        change = torch.randn(hidden[:, :half].shape, generator=random, dtype=hidden.dtype)
        hidden[:, :half] += (0.05, 2.0)[step % 3 == 2] * change
    return outputs


def cached(
    group: dist.ProcessGroup, kind: str, first: str = "enable", image: int = 17, compiled: bool = False, **more: Any
) -> dict[str, Any]:
    """Steps with the cache on all ranks, against one process: errors, and what each rank would have decided alone."""
    from diffusers.hooks import FirstBlockCacheConfig
    from diffusers.hooks.first_block_cache import FBCHeadBlockHook

    from attention_backends.diffusers_seam import caches

    model, inputs, config = tiny.flux(layers=2), tiny.flux_inputs(image, 7), FirstBlockCacheConfig(THRESHOLDS[kind])
    whole = steps(model, inputs)
    model.enable_cache(config)
    alone = steps(model, inputs)
    model.disable_cache()
    decisions: list[tuple[bool, bool]] = []
    together = caches._together

    def watched(state: Any, hook: Any, added: torch.Tensor) -> bool:
        mine = FBCHeadBlockHook._should_compute_remaining_blocks(hook, added)
        decisions.append((mine, together(state, hook, added)))
        return decisions[-1][1]

    caches._together = watched
    if first == "cache":
        model.enable_cache(config)
    attention_backends.enable(model, process_group=group, **ANY | more)
    if first == "enable":
        model.enable_cache(config)
    try:
        shared = steps(model, inputs, torch.compile(model, dynamic=True, backend="eager") if compiled else None)
    finally:
        caches._together = together
        attention_backends.disable(model)
        torch.compiler.reset()
    left = [name for hook in caches.leaders(model) for name in vars(hook) if name == caches.DECIDES]
    model.disable_cache()
    return {
        "error": max((one - two).abs().max().item() for one, two in zip(alone, shared, strict=True)),
        "off": max((one - two).abs().max().item() for one, two in zip(alone, whole, strict=True)),
        "alone": [mine for mine, _ in decisions],
        "together": [ours for _, ours in decisions],
        "left": left,
    }


@pytest.mark.parametrize("first", ["cache", "enable"])
def test_ranks_that_would_decide_unlike_skip_together(ranks, first):
    found = ranks.run(cached, 3, kind="half", first=first)
    assert max(each["error"] for each in found) < 1e-10
    decided = found[0]["together"]
    assert all(each["together"] == decided for each in found)
    assert any(decided)
    assert not all(decided)
    assert found[0]["off"] > 1e-3, "the cache changed nothing"
    assert any(len({each["alone"][step] for each in found}) == 2 for step in range(STEPS)), "all ranks saw the same"
    assert not any(each["left"] for each in found), "disable() leaves a hook of ours"


def test_a_rank_without_tokens_and_unequal_shares(ranks):
    for more in ({"image": 2}, {"shares": (5, 1, 1)}, {"ring_degree": 1, "ulysses_degree": 3}):
        found = ranks.run(cached, 3, kind="half", **more)
        assert max(each["error"] for each in found) < 1e-10
        assert all(each["together"] == found[0]["together"] for each in found)


@pytest.mark.parametrize(("case", "computes"), [("all", True), ("none", False)])
def test_thresholds_at_both_ends(ranks, case, computes):
    found = ranks.run(cached, 3, kind=case)
    assert max(each["error"] for each in found) < 1e-10
    assert all(set(each["together"][1:]) == {computes} for each in found)
    assert (found[0]["off"] == 0) == computes


@pytest.mark.slow
@pytest.mark.skipif("FAMILY_SAMPLES" not in os.environ, reason="three ranks compile for half a minute")
def test_a_compiled_model_decides_likewise(ranks):
    found = ranks.run(cached, 3, kind="half", first="cache", compiled=True)
    assert max(each["error"] for each in found) < 1e-10
    assert all(each["together"] == found[0]["together"] for each in found)
    assert not all(found[0]["together"])


def apart(group: dist.ProcessGroup) -> list[str]:
    """Steps, before the third of which one rank's cache is reset, and in the fourth of which another rank fails."""
    from diffusers.hooks import FirstBlockCacheConfig

    model, inputs, told = tiny.flux(layers=2), tiny.flux_inputs(17, 7), []
    attention_backends.enable(model, process_group=group, **ANY)
    model.enable_cache(FirstBlockCacheConfig(0.1))
    for step in range(5):
        if step == 2 and group.rank() == 1:
            model._reset_stateful_cache()
        fault = (
            model.single_transformer_blocks[1].register_forward_hook(_fail) if step == 3 == group.rank() + 3 else None
        )
        try:
            with model.cache_context("cond"), torch.no_grad():
                model(**inputs | {"hidden_states": inputs["hidden_states"] * (1 + step)})
        except (FloatingPointError, RankFailedError) as error:
            told.append(f"{step} {error}")
        if fault is not None:
            fault.remove()
    attention_backends.disable(model)
    return told


def _fail(*_: Any) -> None:
    raise FloatingPointError("a fault")


def test_ranks_of_which_one_has_nothing_to_compare_with_compute(ranks):
    for rank, told in enumerate(ranks.run(apart, 3)):
        assert told == (["3 a fault"] if rank == 0 else ["3 rank 0 failed: FloatingPointError: a fault"])


def came_later(group: dist.ProcessGroup) -> None:
    from diffusers.hooks import FirstBlockCacheConfig

    model = tiny.flux(layers=2)
    attention_backends.enable(model, process_group=group, **ANY)
    try:
        upkeep = model._diffusers_hook.hooks["attention_backends---forward"].upkeep
        model.enable_cache(FirstBlockCacheConfig(0.1))
        upkeep.check_compiled()  # as a forward that torch.compile traces does
    finally:
        attention_backends.disable(model)


def test_a_compiled_model_whose_cache_came_later_is_refused(ranks):
    for error in ranks.errors(came_later, 3):
        assert error is not None
        assert "Call model.enable_cache() before attention_backends.enable()" in error
