"""Ranks that run apart without failing all get an error with the cause, soon; slow ranks get none."""

import time
from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist
from torch.distributed import PrefixStore

import attention_backends
from attention_backends import watch
from attention_backends.watch import OUTSIDE, RECEIVE, SEND, Message, Standing, Watch, in_vain


def receiving(place: str, peer: int, tag: int, *posted: Message) -> Standing:
    waits = Message(RECEIVE, peer, tag)
    return Standing(place, 1, waits, (waits, *posted))


IDLE = Standing(OUTSIDE)
CASES: dict[str, tuple[list[Standing | None], str]] = {
    "one goes on": ([receiving("a", 1, 5), None], ""),
    "all are idle": ([IDLE, IDLE], ""),
    "one never comes": ([receiving("a", 1, 5), IDLE], "rank 0 is in a; rank 1 is outside the model. Every rank must"),
    "in different places": ([receiving("a", 1, 5), receiving("b", 0, 6)], "rank 0 is in a; rank 1 is in b."),
    "a slow link": ([receiving("a", 1, 5), receiving("a", 0, 5, Message(SEND, 0, 5))], ""),
    "in one place": ([receiving("a", 1, 5), receiving("a", 0, 6)], "all ranks wait in a, for messages that none sends"),
    "a send to one who has gone": (
        [Standing("a", 1, Message(SEND, 2, 5), (Message(SEND, 2, 5),)), IDLE, IDLE],
        "rank 0 is in a; ranks 1 and 2 are outside the model.",
    ),
    # Rank 2 has posted what rank 0 waits for, and so has what rank 0 will send it next: it only takes its time.
    "one of three moves": (
        [receiving("a", 2, 5), receiving("a", 0, 7), receiving("a", 1, 5, Message(SEND, 0, 5))],
        "",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_who_waits_in_vain(name):
    everyone, says = CASES[name]
    assert says in in_vain(everyone)
    assert bool(says) == bool(in_vain(everyone))
    for one in everyone:
        assert one is None or Standing.decode(one.encode()) == one


class Unused:
    """A wire that no forward uses, with the store that its watch reads."""

    patience, inside, place, steps, waits = 0.1, False, "", 0, None

    def __init__(self):
        self.reads = 0

    def rank(self):
        return 0

    def check(self, _):
        self.reads += 1
        return False


@pytest.mark.slow
def test_a_watch_that_nobody_asks_looks_once_a_patience():
    """Each look is a request to the rank that serves the store, which would never be idle with many watches."""
    wire, began = Unused(), time.monotonic()
    watch = Watch(wire, store=wire)
    time.sleep(2.0)
    watch._end()
    assert wire.reads <= (time.monotonic() - began) / wire.patience + 4  # the first few come sooner


@pytest.mark.slow
def test_a_rank_that_compiles_goes_on():
    """It waits for compilers, which are other processes, and computes nothing itself."""
    seen = []

    def backend(graph, _):
        seen.append(watch._compiles())
        return graph.forward

    fast = torch.compile(lambda x: x + 1, backend=backend)
    assert fast(torch.ones(1)).item() == 2
    assert seen == [True]
    assert not watch._compiles()


def apart(group: dist.ProcessGroup, how: str) -> dict[str, Any]:
    """One rank does otherwise in the second of four forwards; the last is right again."""
    model, inputs = tiny.flux(layers=2), tiny.flux_inputs(17, 7)
    odd, store = dist.get_rank(group) == 1, PrefixStore(how, group.get_group_store())
    world, errors, wrong = dist.get_world_size(group), [], 0.0
    with torch.no_grad():
        expected = model(**inputs)[0]
        attention_backends.enable(model, process_group=group, ring_degree=world, unified_anything=True, patience=1.0)
        block = model.transformer_blocks[1]
        for turn in range(4):
            began, handle = time.monotonic(), None
            if turn == 1 and odd and how == "a block":  # as a cache that decides by this rank's tokens
                kept, block.forward = (
                    block.forward,
                    lambda *_, **given: (
                        given["encoder_hidden_states"],
                        given["hidden_states"],
                    ),
                )
            if turn == 1 and odd and how == "a forward":
                while not store.check(["told"]):  # if the others were late, its next forward would do for theirs
                    time.sleep(0.1)
                continue
            if turn == 1 and odd and how == "slow":
                handle = block.register_forward_pre_hook(lambda *_: time.sleep(4))
            if turn == 1 and odd and how == "timestep":
                inputs["timestep"] = inputs["timestep"] + 0.25
            try:
                wrong = max(wrong, (model(**inputs)[0] - expected).abs().max().item())
            except Exception as error:
                errors.append(f"{turn} {type(error).__name__}: {error}")
                assert time.monotonic() - began < 30
                store.set("told", "")
            if handle is not None:
                handle.remove()
            if turn == 1 and odd and how == "a block":
                block.forward = kept
            inputs = tiny.flux_inputs(17, 7)
        attention_backends.disable(model)
    return {"errors": errors, "wrong": wrong}


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_a_rank_that_skips_an_attention_is_told_of_on_all(ranks, world):
    for found in ranks.run(apart, world, how="a block"):
        (error,) = found["errors"]
        assert error.startswith("1 RankFailedError: the ranks run apart and wait for each other: rank")
        assert "in attention 2, transformer_blocks.1.attn, of forward " in error
        assert "rank 1 is in attention 2, single_transformer_blocks.0.attn, of forward " in error
        assert found["wrong"] < 1e-10


@pytest.mark.slow
def test_a_rank_that_skips_a_forward_is_told_of_on_all(ranks):
    cause = "RankFailedError: the ranks run apart and wait for each other: ranks 0 and 2 are in attention 1, "
    for rank, found in enumerate(ranks.run(apart, 3, how="a forward")):
        assert found["wrong"] < 1e-10
        turns = [error[0] for error in found["errors"]]
        assert turns == (["2"] if rank == 1 else ["1", "2"])
        for error in found["errors"]:
            assert error[2:].startswith(cause)
            assert "rank 1 is outside the model." in error


@pytest.mark.slow
def test_a_slow_rank_is_waited_for(ranks):
    for found in ranks.run(apart, 3, how="slow"):
        assert found == {"errors": [], "wrong": pytest.approx(0, abs=1e-10)}


def test_ranks_in_different_steps_all_raise(ranks):
    for found in ranks.run(apart, 2, how="timestep"):
        assert found["errors"] == [
            "1 ValueError: rank 0 has timestep 0.5, rank 1 timestep 0.75: give every rank the same, whole inputs."
        ]
