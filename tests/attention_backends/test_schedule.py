"""A schedule gives the same bits however messages arrive; "auto" chooses alike on every rank."""

import time

import pytest
import torch
import torch.distributed as dist

from attention_backends import exchange
from attention_backends.layout import Layout, Route, split_lengths
from attention_backends.schedule import auto, measure
from attention_backends.topology import Topology
from attention_backends.unified import context_parallel_attention
from attention_backends.workload import SPEEDS, Speeds

LENGTHS = (700, 1, 900)


def outputs(group: dist.ProcessGroup, schedule: str) -> bool:
    """Whether every run gives the same bits; another rank is late in each."""
    topology, layout = Topology(group, dist.get_rank(group), 3, 1), Layout(LENGTHS)
    generator = torch.Generator().manual_seed(topology.rank)
    q, k, v = (torch.randn(1, LENGTHS[topology.rank], 2, 16, generator=generator) for _ in range(3))
    found = []
    for late in (None, 0, 1, 2):
        dist.barrier(group)
        if late == topology.rank:
            time.sleep(0.05)
        found.append(
            context_parallel_attention(q, k, v, queries=layout, keys=layout, topology=topology, schedule=schedule)
        )
    return all(torch.equal(out, found[0]) for out in found)


@pytest.mark.parametrize("schedule", ["gather", "staged"])
def test_the_same_bits_whoever_is_late(ranks, schedule):
    assert ranks.run(outputs, 3, schedule=schedule) == [True, True, True]


SLOW, FAST = Speeds(1e-4, 25e6, 80e9, 5e9), Speeds(1e-5, 400e9, 1e9, 5e9)


@pytest.mark.parametrize("heads", [2, 0])
def test_auto_follows_the_speeds_that_it_is_given(heads):
    layout = Layout((2300, 2200))
    route, x = Route(layout, layout), torch.empty(1, 2300, heads, 64)
    assert auto(route, x, x, "cpu_flash", SLOW) == ("staged" if heads else "gather")
    assert auto(route, x, x, "cpu_flash", FAST) == "gather"
    assert auto(Route(Layout((9,)), Layout((9,))), x, x, "cpu_flash", SLOW) == "gather"


def test_auto_knows_what_runs_while_keys_travel():
    """Four RTX 4090: pieces pay for themselves in a block of two streams, and not where an MLP hides the wire."""
    layout, width = Layout(split_lengths(4608, 4)), 24 * 128
    query = torch.empty(1, 1152, 24, 128, dtype=torch.bfloat16)
    told = Route(layout, layout), query, query, "cuda_flash", SPEEDS["cuda"]
    assert [auto(*told, meanwhile) for meanwhile in (0, 18 * width**2)] == ["staged", "gather"]


def sent(group: dist.ProcessGroup, speeds: Speeds | None) -> tuple[int, int]:
    """Messages of an attention with schedule "auto", and exchanges of anything else."""
    topology, layout = Topology(group, dist.get_rank(group), 2, 1), Layout((2300, 2200))
    q, k, v = (torch.randn(1, layout.lengths[topology.rank], 2, 16) for _ in range(3))
    exchange.reset_counters()
    context_parallel_attention(q, k, v, queries=layout, keys=layout, topology=topology, schedule="auto", speeds=speeds)
    counted = exchange.counters()
    return counted.messages, counted.size_exchanges


def test_auto_measures_nothing_and_chooses_alike_on_every_rank(ranks):
    pieces = len(Route(Layout((2300, 2200)), Layout((2300, 2200)), schedule="staged").pieces(0, 1))
    assert pieces > 1
    assert ranks.run(sent, 2, speeds=SLOW) == [(pieces, 0)] * 2
    assert ranks.run(sent, 2, speeds=FAST) == [(1, 0)] * 2
    assert ranks.run(sent, 2, speeds=None) in ([(pieces, 0)] * 2, [(1, 0)] * 2)


def measured(group: dist.ProcessGroup) -> Speeds:
    return measure(group, heads=2, head_dim=64, dtype=torch.float32, device=torch.device("cpu"))


def test_measured_speeds_are_the_same_on_every_rank(ranks):
    first, *others = ranks.run(measured, 3)
    assert others == [first, first]
    assert min(first.latency, first.bandwidth, first.compute, first.memory) > 0
