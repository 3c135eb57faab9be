"""Shares that follow from what ranks reach."""

import dataclasses

import pytest
from shared import GPUS, LAPTOP

from launcher.estimates import memory
from launcher.estimates.notes import notes
from launcher.estimates.plan import plan
from launcher.gpus import Gpu
from launcher.machines import Machine
from launcher.request.speeds import in_proportion, rank_speeds

CARDS = (Gpu(0, "NVIDIA GeForce RTX 5090", 32607), Gpu(1, "NVIDIA GeForce RTX 4090", 24564))
MIXED = Machine(32, CARDS)
LINE = ["model=flux", "cp=ring_anything", "cp.shares=auto", "height=1000"]


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [([2.0, 1.0], (2, 1)), ([1e12, 1e12], ()), ([1.5, 1.0, 2.0], (3, 2, 4)), ([1.0, 3.0001], (1, 3)), ([5], ())],
)
def test_whole_numbers_compare_as_speeds_do(speeds, expected):
    assert in_proportion(speeds) == expected


def test_links_within_a_machine_and_between_two_are_told_apart(ask):
    """Two machines of 8 GPUs: 450 GB/s within, 400 GB/s between, which 8 ranks share."""
    line = ["machine=h100x8_2nodes", "model=flux", "height=1000"]
    unified = ask(*line, "cp=unified_anything")
    assert (unified.mesh.ring, unified.mesh.ulysses, unified.mesh.ranks) == (2, 8, 16)
    assert len(unified.devices) == 8
    one = rank_speeds(unified)[0]
    assert (one.bandwidth, one.ring_bandwidth) == (450e9, pytest.approx(50e9))
    assert (one.latency, one.ring_latency) == (3e-6, pytest.approx(15e-6))
    ring = rank_speeds(ask(*line, "cp=ring_anything"))[0]  # 8 of its 15 others are on the other machine
    assert ring.ring_bandwidth == pytest.approx(1 / (7 / 15 / 450e9 + 8 / 15 / 50e9))
    ulysses = rank_speeds(ask(*line, "cp=ulysses_anything"))[0]
    assert ulysses.bandwidth == ring.ring_bandwidth
    alone = rank_speeds(ask(*line, "cp=ring_anything", "machine.nodes=1"))[0]
    assert (alone.bandwidth, alone.ring_bandwidth) == (450e9, 0.0)
    assert alone.wire(450e9, 1) == pytest.approx(1 + 3e-6)
    assert one.wire(50e9, 2) == pytest.approx(1 + 30e-6)


def test_threads_decide_on_a_cpu(ask):
    machine = dataclasses.replace(LAPTOP, cores=4)
    request = ask("cp=ring_anything", "runtime.threads=[2,1]", "cp.shares=auto", machine=machine)
    assert (request.shares, request.threads) == ((2, 1), (2, 1))
    one, two = rank_speeds(request)
    assert one.compute == 2 * two.compute
    crowded = ask("cp=ring_anything", "runtime.threads=[4,4]", machine=LAPTOP)
    assert [each.compute for each in rank_speeds(crowded)] == [two.compute] * 2  # 8 threads on 2 cores


@pytest.mark.slow
def test_a_faster_card_is_given_more(ask):
    """By the cards' data sheets: 209.5 and 165.2 TFLOP/s."""
    request = ask(*LINE, machine=MIXED)
    assert request.shares == (127, 100)
    held = [sum(rank.values()) for rank in request.tokens_per_rank]
    assert held[0] / held[1] == pytest.approx(1.27, rel=0.01)
    even = ask(*[word for word in LINE if "shares" not in word], machine=MIXED)
    uneven, equal = (next(row for row in plan(one).modes if row.mode == "ring_anything") for one in (request, even))
    assert 1 / 1.27 < uneven.seconds / equal.seconds < 0.93
    assert ask(*LINE, "runtime.devices=[1,0]", machine=MIXED).shares == (100, 127)
    assert ask(*LINE, machine=GPUS).shares == ()


def test_a_card_without_the_memory_for_its_share_is_given_less(ask):
    full = Machine(32, tuple(Gpu(index, "NVIDIA H100 80GB HBM3", 81559, 53259 * index) for index in range(2)))
    line = [*LINE, "height=4000", "width=4000"]
    request, equal = ask(*line, machine=full), ask(*line, "cp.shares=null", machine=full)
    assert [rank for rank, _, _ in memory.lacking(equal)] == [1]
    assert request.shares[0] > request.shares[1]
    assert memory.lacking(request) == []
    told = [note for note in notes(ask(*line, "cp.shares=[1,2]", machine=full)) if "GiB are free" in note]
    assert told[0].startswith("rank 1 needs about")


def test_halves_of_guidance_go_by_the_slower_rank_of_each_place(ask):
    cards = tuple(
        Gpu(index, f"NVIDIA GeForce RTX {name}", 32000) for index, name in enumerate((5090, 4090, 4090, 4090))
    )
    line = ["model=qwenimage", "cp=ring_anything", "cp.cfg_degree=2", "cp.shares=auto", "height=1000"]
    assert ask(*line, machine=Machine(32, cards)).shares == ()
    assert ask(*line, machine=Machine(32, (*cards[:2], *cards[:2]))).shares == (127, 100)
