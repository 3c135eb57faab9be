"""Whatever fails on one rank reaches all ranks at once, with its cause, and the next forward is right again."""

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist

import attention_backends
from attention_backends.wire import RankFailedError

MODES: list[dict[str, Any]] = [
    {"ring_degree": 3, "ring_anything": True, "schedule": "gather"},
    {"ring_degree": 3, "ring_anything": True, "schedule": "staged"},
    {"ulysses_degree": 3, "ulysses_anything": True},
    {"ring_degree": 2, "ulysses_degree": 2, "unified_anything": True},
]
# Before the first attention, between two, before the gather, and after the last exchange of a forward.
PLACES = ["x_embedder", "transformer_blocks.1.norm1", "single_transformer_blocks.1.proj_out", "proj_out"]


def failing(group: dist.ProcessGroup, arguments: dict[str, Any], place: str, who: int) -> dict[str, Any]:
    """One rank fails at `place` in the second of four forwards; all go on afterwards."""
    model, inputs = tiny.flux(layers=2), tiny.flux_inputs(17, 7)
    rank, errors, seconds = dist.get_rank(group), [], []
    with torch.no_grad():
        expected = model(**inputs)[0]
        attention_backends.enable(model, process_group=group, **arguments)
        wrong = 0.0
        for turn in range(4):
            handle = None
            if turn == 1 and rank == who:

                def fail(*_: Any) -> None:
                    raise FloatingPointError("a fault of this rank")

                handle = model.get_submodule(place).register_forward_hook(fail)
            began = time.monotonic()
            try:
                wrong = max(wrong, (model(**inputs)[0] - expected).abs().max().item())
            except Exception as error:
                errors.append(f"{turn} {type(error).__name__}: {error}")
            seconds.append(time.monotonic() - began)
            if handle is not None:
                handle.remove()
        attention_backends.disable(model)
    return {"errors": errors, "wrong": wrong, "seconds": max(seconds)}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", MODES, ids=lambda arguments: "-".join(map(str, arguments.values())))
@pytest.mark.parametrize("place", PLACES[:3])
def test_a_failure_reaches_all_ranks(ranks, arguments, place):
    world = arguments.get("ring_degree", 1) * arguments.get("ulysses_degree", 1)
    for rank, found in enumerate(ranks.run(failing, world, arguments=arguments, place=place, who=1)):
        (error,) = found["errors"]
        cause = "FloatingPointError: a fault of this rank"
        assert error == (f"1 {cause}" if rank == 1 else f"1 RankFailedError: rank 1 failed: {cause}")
        assert found["wrong"] < 1e-10
        assert found["seconds"] < 30


def test_a_failure_after_the_last_exchange_reaches_the_others_at_their_next(ranks):
    found = ranks.run(failing, 3, arguments=MODES[0], place="proj_out", who=2)
    cause = "rank 2 failed: FloatingPointError: a fault of this rank"
    assert found[2]["errors"] == [
        "1 FloatingPointError: a fault of this rank",
        f"2 RankFailedError: {cause}, in the forward before",
    ]
    for other in found[:2]:
        assert other["errors"] == [f"2 RankFailedError: {cause}"]
    assert max(one["wrong"] for one in found) < 1e-10


def differing(group: dist.ProcessGroup, change: Callable[..., Any] | str) -> None:
    odd = dist.get_rank(group) == 1
    model, inputs = tiny.flux(), tiny.flux_inputs(16, 6, batch=2 if odd and change == "batch" else 1)
    arguments: dict[str, Any] = {"ring_degree": 2, "ring_anything": True}
    if odd and change == "mode":
        arguments = {"ulysses_degree": 2, "ulysses_anything": True}
    if odd and change == "schedule":
        arguments["schedule"] = "staged"
    if odd and change == "refused":
        arguments["kernel"] = "fast"
    if odd and change == "dtype":
        model = model.float()
        inputs = {name: x.float() if isinstance(x, torch.Tensor) else x for name, x in inputs.items()}
    if odd and change == "heads":
        model = tiny.flux(heads=2)
    if change == "text":
        inputs = tiny.flux_inputs(16, 6 + odd)
    attention_backends.enable(model, process_group=group, **arguments)
    try:
        model(**inputs)
    finally:
        attention_backends.disable(model)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("batch", "rank 0 has batch 1, rank 1 batch 2: give every rank the same"),
        ("dtype", "rank 0 has dtype float64, rank 1 dtype float32"),
        ("heads", "rank 0 has heads 4, rank 1 heads 2"),
        ("text", "rank 0 was given [16, 6] tokens, rank 1 [16, 7]"),
        ("mode", "rank 0 enables with mode=ring_anything, rank 1 with mode=ulysses_anything"),
        ("schedule", "rank 0 enables with schedule=auto, rank 1 with schedule=staged"),
    ],
)
def test_ranks_that_differ_all_raise(ranks, change, says):
    for error in ranks.errors(differing, 2, change=change):
        assert error is not None
        assert error.startswith("ValueError")
        assert says in error


def test_a_rank_that_enable_refuses_does_not_leave_the_others_waiting(ranks):
    first, second = ranks.errors(differing, 2, change="refused")
    assert second is not None
    assert second.startswith("ValueError: kernel='fast': unknown kernel")
    assert first == f"RankFailedError: rank 1 failed: {second}"


def dying(group: dist.ProcessGroup) -> None:
    model = tiny.flux()
    attention_backends.enable(model, process_group=group, ring_degree=3, ring_anything=True)
    if dist.get_rank(group) == 1:
        model.transformer_blocks[0].register_forward_hook(lambda *_: os._exit(3))
    with pytest.raises(RankFailedError, match="the connection to another rank is lost"):
        model(**tiny.flux_inputs(17, 7))
    model(**tiny.flux_inputs(17, 7))


def test_a_rank_that_dies_ends_the_wait_of_the_others(ranks):
    began = time.monotonic()
    first, second, third = ranks.errors(dying, 3)
    assert second == "EOFError: the process died"
    for error in (first, third):
        assert error is not None
        assert error.startswith("RankFailedError: the connection to another rank is lost")
        assert error.endswith("Start all ranks anew.")
    assert time.monotonic() - began < 20 + 60 * (not ranks._members)
