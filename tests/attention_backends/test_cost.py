"""The bytes and messages that the model states are those that the exchanges count; the cheaper schedule is chosen."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from attention_backends import attention2d, cost2d, exchange
from attention_backends.cost import cheapest, held, host_seconds, puts_off, seconds, sent
from attention_backends.layout import Layout, Route, split_lengths
from attention_backends.topology import Topology
from attention_backends.unified import context_parallel_attention
from attention_backends.workload import LAUNCH, NOTHING, SPEEDS, Attention, Meanwhile, Shape, Speeds


def counted(
    group: dist.ProcessGroup, ring: int, ulysses: int, q_lengths: list[int], k_lengths: list[int], grid: bool = False,
    **case: Any,
) -> dict[str, int]:  # fmt: skip
    topology = Topology(group, dist.get_rank(group), ring, ulysses)
    queries, keys = Layout(tuple(q_lengths)), Layout(tuple(k_lengths))
    q = torch.randn(2, q_lengths[topology.rank], 4, 8)
    key_heads, masked = case.pop("key_heads"), case.pop("masked")
    k, v = (torch.randn(2, k_lengths[topology.rank], key_heads, 8) for _ in range(2))
    mask = torch.ones(2, k_lengths[topology.rank], dtype=torch.bool) if masked else None
    exchange.reset_counters()
    attend = attention2d.context_parallel_attention if grid else context_parallel_attention
    attend(q, k, v, mask, queries=queries, keys=keys, topology=topology, **case)
    return exchange.counters().asdict()


CASES: list[tuple[int, int, list[int]]] = [
    (3, 1, [9, 0, 300]),
    (1, 3, [9, 1, 4]),
    (2, 2, [700, 5, 0, 3]),
    (2, 3, [3, 3, 3, 2, 2, 2]),
    (1, 5, [5, 2, 2, 1, 0]),  # more members than heads
]


@pytest.mark.parametrize(("ring", "ulysses", "lengths"), CASES, ids=str)
def test_what_moves_is_what_the_formula_says(ranks, ring, ulysses, lengths):
    for schedule in ("gather", "staged"):
        for key_heads, is_causal, masked in ((4, False, False), (2, False, True), (4, True, False)):
            case = {"key_heads": key_heads, "is_causal": is_causal, "schedule": schedule, "masked": masked}
            counts = ranks.run(
                counted, ring * ulysses, ring=ring, ulysses=ulysses, q_lengths=lengths, k_lengths=lengths, **case
            )
            layout, shape = Layout(tuple(lengths)), Shape(4, 8, batch=2, key_heads=key_heads, element_size=4)
            # A mask has a byte for each batch entry.
            stated = sent(Attention(layout, layout, shape, ring, ulysses, schedule, is_causal, key_mask=2 * masked))
            for count, moved in zip(counts, stated, strict=True):
                asked = int(masked and 2 in lengths)  # a batch of 2 and 2 queries: which of them does the mask count?
                assert count == {"bytes": moved.bytes, "messages": moved.messages, "size_exchanges": asked}


@pytest.mark.parametrize(
    ("ring", "ulysses", "lengths"), [(2, 2, [700, 5, 0, 3]), (2, 3, [3, 3, 3, 2, 1, 0]), (3, 2, [9, 0, 4, 31, 1, 2])]
)
def test_what_a_grid_moves_is_what_the_formula_says(ranks, ring, ulysses, lengths):
    for key_heads, masked in ((4, False), (2, True)):
        case = {"ring": ring, "ulysses": ulysses, "q_lengths": lengths, "k_lengths": lengths, "grid": True}
        counts = ranks.run(counted, ring * ulysses, key_heads=key_heads, masked=masked, **case)
        layout, shape = Layout(tuple(lengths)), Shape(4, 8, batch=2, key_heads=key_heads, element_size=4)
        stated = cost2d.sent(Attention(layout, layout, shape, ring, ulysses, key_mask=2 * masked))
        for count, moved in zip(counts, stated, strict=True):
            assert (count["bytes"], count["messages"]) == (moved.bytes, moved.messages)


def test_what_runs_meanwhile_hides_the_wire_and_nothing_else():
    """FLUX at 1024 x 1024 on four RTX 4090 in its 38 blocks of one stream and 19 of two, of 12 d^2 weights each."""
    layout, width, own = Layout(split_lengths(4608, 4)), 24 * 128, SPEEDS["cuda"]
    linear = 1152 * 24 * width**2 / own.compute

    def step(hidden: int, ring: int = 4, ulysses: int = 1) -> float:
        query, mlp = 2.0 * hidden * width**2, 8.0 * hidden * width**2
        blocks = ((38, Meanwhile(query, mlp, mlp)), (19, Meanwhile(query)))  # in one stream 9 of 12 parts need no keys
        each = [
            (count, Attention(layout, layout, Shape(24, 128), ring, ulysses, meanwhile=meanwhile))
            for count, meanwhile in blocks
        ]
        return sum(count * (seconds(one, [own] * 4) + linear) for count, one in each)

    assert step(0) == pytest.approx(0.329, abs=1e-3)
    assert step(1) == pytest.approx(0.239, abs=1e-3)
    assert step(0, ring=1, ulysses=4) == pytest.approx(0.270, abs=1e-3)
    assert step(1, ring=1, ulysses=4) == pytest.approx(0.215, abs=1e-3)
    alone = replace(own, bandwidth=1e18, latency=0.0)
    one = Attention(layout, layout, Shape(24, 128), 4, 1, meanwhile=Meanwhile(1e15))
    assert seconds(one, [own] * 4) == pytest.approx(seconds(replace(one, meanwhile=NOTHING), [alone] * 4), rel=1e-6)


def test_a_grid_moves_less_than_a_ring():
    """2 (R + U - 2) / P of a sequence of H D numbers, and the log-sum-exps, where a ring moves 2 (P - 1) / P."""
    layout, shape = Layout(split_lengths(75648, 64)), Shape(12, 128)
    part = layout.lengths[0] * 12 * 128 * 2
    (moved, *_), (around, *_) = (
        cost2d.sent(Attention(layout, layout, shape, 8, 8)),
        sent(Attention(layout, layout, shape, 64, 1)),
    )
    assert moved.bytes == 28 * part + 7 * layout.lengths[0] * 12 * 4
    assert around.bytes == 126 * part


def test_a_grid_is_faster_where_ranks_outnumber_heads():
    layout, shape, speeds = Layout(split_lengths(75600, 64)), Shape(2, 128), [Speeds(1e-5, 20e9, 400e12, 2e12)] * 64
    grid = cost2d.seconds(Attention(layout, layout, shape, 8, 8), speeds)
    for ulysses in (1, 2, 4, 8, 64):
        for schedule in ("gather", "staged"):
            assert grid < seconds(Attention(layout, layout, shape, 64 // ulysses, ulysses, schedule), speeds)


def test_a_ring_moves_each_real_key_and_value_once_to_each_reader():
    """The formula against the definition, so that both cannot be wrong alike."""
    lengths, row = (9, 0, 300), 2 * 4 * 8 * 4  # batch x heads x head size x float32
    layout, shape = Layout(lengths), Shape(4, 8, batch=2, element_size=4)
    for rank, moved in enumerate(sent(Attention(layout, layout, shape, 3))):
        readers = sum(1 for other in range(3) if other != rank and lengths[other])
        assert moved.bytes == readers * 2 * lengths[rank] * row


def test_flux_on_four_gpus_moves_what_the_papers_say():
    """FLUX.1-dev at 1024 x 1024, bfloat16: with u = S/N H D 2 bytes, ring 2 (N - 1) u, Ulysses 4 (N - 1) / N u."""
    layout, shape = Layout(split_lengths(4096 + 512, 4)), Shape(24, 128)
    u = 1152 * 24 * 128 * 2
    for degrees, expected in (((4, 1), 6 * u), ((1, 4), 3 * u), ((2, 2), 4 * u)):
        moved = sent(Attention(layout, layout, shape, *degrees))
        assert {each.bytes for each in moved} == {expected}


def test_a_slow_link_is_hidden_and_a_fast_one_is_not_worth_it():
    layout, shape = Layout(split_lengths(4545, 2)), Shape(4, 64, element_size=4)
    route = Route(layout, layout)
    slow, fast = Speeds(1e-4, 25e6, 80e9, 5e9), Speeds(1e-4, 2e9, 80e9, 5e9)
    assert cheapest(route, shape, [slow] * 2) == "staged"
    assert cheapest(route, shape, [fast] * 2) == "gather"
    for name in ("gather", "staged"):
        assert seconds(Attention(layout, layout, shape, 2, 1, name), [slow] * 2) > 0.1


def test_a_quarter_of_flux_waits_for_the_host_of_a_fast_gpu():
    """gpu.json: 57 layers of a quarter of FLUX at 1024 x 1024 take an H100 49 ms and its host 105 (gather)."""
    layout = Layout(split_lengths(4096 + 512, 4))
    one = Attention(layout, layout, Shape(24, 128), 4, meanwhile=Meanwhile(2.0 * 3072**2))
    nvlink = Speeds(3e-6, 450e9, 0.4 * 989e12, 3e12, LAUNCH)
    assert 57 * host_seconds(replace(one, meanwhile=NOTHING), nvlink) == pytest.approx(0.105, rel=0.1)
    assert not puts_off(one, nvlink)
    assert puts_off(one, SPEEDS["cuda"])  # by PCIe the wire takes longer than all of it
    assert puts_off(one, replace(nvlink, launch=0.0))  # a CPU computes itself
    longer = Layout(split_lengths(4 * 4096 + 512, 4))
    assert puts_off(replace(one, queries=longer, keys=longer), nvlink)
    assert host_seconds(replace(one, schedule="staged"), nvlink) > host_seconds(one, nvlink)
    trading = replace(one, ring_degree=1, ulysses_degree=4)
    assert host_seconds(trading, nvlink) > host_seconds(one, nvlink)


@pytest.mark.parametrize("reverse", [False, True])
def test_pieces_cover_each_needed_key_once(reverse):
    for lengths in ((4545, 2), (300, 0, 1000, 257), (1,), (0, 0)):
        layout = Layout(lengths[::-1] if reverse else lengths)
        for is_causal in (False, True):
            route = Route(layout, layout, is_causal, "staged")
            for reader in range(len(lengths)):
                spans = [span for owner in range(len(lengths)) for span in route.pieces(owner, reader)]
                assert [key for begin, end in spans for key in range(begin, end)] == list(range(route.needed(reader)))


def peak(
    group: dist.ProcessGroup, ring: int, ulysses: int, lengths: list[int], schedule: str, dtype: str, grid: bool = False
) -> int:
    """Bytes that torch had allocated at most during an attention, above what it had before."""
    topology, layout = Topology(group, dist.get_rank(group), ring, ulysses), Layout(tuple(lengths))
    q, k, v = (torch.randn(1, lengths[topology.rank], 4, 64).to(getattr(torch, dtype)) for _ in range(3))
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
        attend = attention2d.context_parallel_attention if grid else context_parallel_attention
        attend(q, k, v, queries=layout, keys=layout, topology=topology, schedule=schedule)
    assert profile.profiler is not None
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ring", "ulysses", "dtype"), [(2, 1, "bfloat16"), (1, 2, "bfloat16"), (3, 1, "float32"), (3, 2, "float32")]
)
def test_memory_is_what_the_formula_says(ranks, ring, ulysses, dtype):
    lengths = [4000, 3000, 2900, 2000, 1100, 1000][: ring * ulysses]
    layout, shape = Layout(tuple(lengths)), Shape(4, 64, element_size=4 if dtype == "float32" else 2)
    for schedule in ("gather", "staged") if ring > 1 else ("gather",):
        stated = held(Attention(layout, layout, shape, ring, ulysses, schedule), partial_size=4)
        case = {"ring": ring, "ulysses": ulysses, "lengths": lengths, "schedule": schedule, "dtype": dtype}
        for measured, bytes_ in zip(ranks.run(peak, ring * ulysses, **case), stated, strict=True):
            assert 0.9 < measured / bytes_ < 1.15


@pytest.mark.slow
@pytest.mark.parametrize(("ring", "ulysses", "dtype"), [(2, 2, "bfloat16"), (2, 2, "float32"), (3, 2, "float32")])
def test_memory_of_a_grid_is_what_the_formula_says(ranks, ring, ulysses, dtype):
    lengths = [4000, 3000, 2900, 2000, 1100, 1000][: ring * ulysses]
    layout, shape = Layout(tuple(lengths)), Shape(4, 64, element_size=4 if dtype == "float32" else 2)
    stated = cost2d.held(Attention(layout, layout, shape, ring, ulysses), partial_size=4)
    case = {"ring": ring, "ulysses": ulysses, "lengths": lengths, "schedule": "gather", "dtype": dtype, "grid": True}
    found = ranks.run(peak, ring * ulysses, **case)
    for measured, bytes_ in zip(found, stated, strict=True):
        assert 0.9 < measured / bytes_ < 1.15
