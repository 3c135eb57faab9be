"""Sharded transformers of each class: ranks that hold a part each compute what ranks that hold all of it compute."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import torch.distributed as dist

# ruff: noqa: E402  (the helpers are found by path)
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "attention_backends" / "helpers")]

import proof
from inputs import Size
from miniatures import TINY, output
from ranks import Ranks

import attention_backends
from launcher.worker.sharded import blocks_of, bytes_held, shard

pytestmark = pytest.mark.slow

WORLDS = (2, 3)
WHOLE = "FAMILY_SAMPLES" in os.environ  # every class that has a plan, in every mode, size and mask of the proof
# Layers that run while keys travel; a stream of which each rank must have some; blocks in other orders; some by name.
SAMPLE = [("flux", 3), ("ltx", 3), ("wan_vace", 2), ("flux3", 3)]
CASES = [(name, world) for name in proof.MODEL for world in WORLDS] if WHOLE else SAMPLE
# Classes whose own defaults are not those of a model.
NO_SIZE = {
    "HiDreamImageTransformer2DModel", "EasyAnimateTransformer3DModel", "OmniGenTransformer2DModel", "HunyuanDiT2DModel"
}  # fmt: skip
Cases = list[tuple[dict[str, Any], Size]]


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    pool = Ranks(max(WORLDS))
    yield pool
    pool.stop()


def outputs(
    group: dist.ProcessGroup, model: Any, name: str, plan: dict[str, Any] | None, cases: Cases
) -> list[torch.Tensor | str]:
    """What a transformer computes in each case, or what it was refused with."""
    found: list[torch.Tensor | str] = []
    for arguments, size in cases:
        attention_backends.enable(model, process_group=group, cp_plan=plan, **arguments)
        try:
            with torch.no_grad():
                found.append(output(model(**TINY[name].given(size))))
        except ValueError as refused:
            found.append(str(refused))
        finally:
            attention_backends.disable(model)
    return found


def parts(
    group: dist.ProcessGroup, name: str, plan: dict[str, Any] | None, cases: Cases
) -> tuple[list[float], int, int, list[int], list[list[int]]]:
    """How far each case is from the same with all weights on each rank; bytes that were held at most, and how many may
    be; the order in which blocks computed, and which each asks for now.
    """
    model = TINY[name].build()
    expected, allowed = outputs(group, model, name, plan, cases), most(model, group.size())
    shard(model, torch.device("cpu"), group)
    blocks, order = blocks_of(model), list[int]()
    for number, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda *_, number=number: order.append(number))
    found = outputs(group, model, name, plan, cases)
    off = [
        float(one != two) if isinstance(one, str) or isinstance(two, str) else (one - two).abs().max().item()
        for one, two in zip(found, expected, strict=True)
    ]
    states = [block._get_fsdp_state() for block in blocks]
    asked = [[states.index(each) for each in state._states_to_forward_prefetch] for state in states]
    return off, bytes_held(model), allowed, order[: len(blocks)], asked


def most(model: torch.nn.Module, ranks: int) -> int:
    """Bytes that a rank may hold: its share, whole rows of each weight, what is outside of blocks, and two blocks."""
    share = sum(-(-len(weight) // ranks) * weight[0].nbytes for weight in model.parameters() if weight.ndim)
    blocks = sorted(map(_bytes, blocks_of(model)))
    return share + _bytes(model) - sum(blocks) + sum(blocks[-2:])


def _bytes(module: torch.nn.Module) -> int:
    return sum(weight.nbytes for weight in module.parameters())


@pytest.mark.parametrize(("name", "world"), CASES)
def test_ranks_that_hold_a_part_compute_the_same_to_the_bit(ranks, name, world):
    cases = [case for case in proof.cases(name) if case.world == world]
    if not WHOLE:
        cases = random.Random(name).sample(cases, 4)
    asked = [(case.arguments, case.size) for case in cases]
    for off, held, allowed, order, after in ranks.run(parts, world, name=name, plan=proof.plans()[name], cases=asked):
        assert [(case, each) for case, each in zip(cases, off, strict=True) if each] == []
        assert held <= allowed
        if len(set(order)) == len(order):  # all blocks compute, each once
            assert [after[number] for number in order] == [*([number] for number in order[1:]), []]


def test_a_rank_holds_its_part_and_two_blocks_and_a_tenth_of_what_models_have():
    """By the classes' own defaults, without any memory; what is held of tiny ones is counted above."""
    kinds = {TINY[name].kind for name in proof.MODEL} - NO_SIZE
    some = {"Flux2Transformer2DModel", "Flux3Transformer2DModel", "WanTransformer3DModel"}
    for kind in sorted(kinds if WHOLE else some):
        with torch.device("meta"):
            model = getattr(diffusers, kind)()
        size, block = _bytes(model), max(map(_bytes, blocks_of(model)))
        for world in (2, 3, 8):
            assert most(model, world) <= size / world + 2 * block + size / 10, (kind, world)
