"""A schedule gives the same bits however messages arrive; a measured choice is the same on every rank."""

import time

import pytest
import torch
import torch.distributed as dist

from attention_backends.layout import Layout
from attention_backends.topology import Topology
from attention_backends.unified import context_parallel_attention

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


def chosen(group: dist.ProcessGroup) -> list[str]:
    topology = Topology(group, dist.get_rank(group), 3, 1)
    for lengths in ((4, 0, 5), (300, 200, 100)):
        layout = Layout(lengths)
        q, k, v = (torch.randn(1, lengths[topology.rank], 2, 16) for _ in range(3))
        context_parallel_attention(q, k, v, queries=layout, keys=layout, topology=topology, schedule="auto")
    return [value for value in topology.measured.values() if isinstance(value, str)]


def test_auto_chooses_alike_on_every_rank(ranks):
    first, *others = ranks.run(chosen, 3)
    assert len(first) == 2
    assert others == [first, first]
