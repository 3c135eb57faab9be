"""What a Ulysses row's trade costs a rank: each number copied once, few copies; and which heads are cut together."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from attention_backends.layout import Layout, key_heads, split_heads
from attention_backends.topology import Topology
from attention_backends.ulysses import Trade, _cut, _runs, heads_to_tokens, tokens_to_heads


class Copies(TorchDispatchMode):
    """Counts copies, and the numbers that they write."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("copy_", "cat", "clone", "add_", "index", "zeros_like"):
            self.count += 1
            self.numbers += out.numel() * out.element_size()
        return out


def copied(group: dist.ProcessGroup, heads: int, batch: int, apart: bool) -> dict[str, Any]:
    """Copies of a trade there and back, the bytes that they write, and what they would be at one copy a number."""
    world, rank, width = dist.get_world_size(group), dist.get_rank(group), 8
    queries = Layout((5, 0, 7, 4)[:world])
    keys = Layout((3, 6, 2, 9)[:world]) if apart else queries
    topology, ranges = Topology(group, rank, 1, world), split_heads(heads, world)
    begin, end = ranges[rank]
    trade = Trade((ranges,) * 3, (queries, keys, keys), topology, buffers=(0, 1, 1) if apart else ())
    whole = [torch.randn(batch, layout.total, heads, width, dtype=torch.float64) for layout in (queries, keys, keys)]
    for x in whole:
        dist.broadcast(x, 0, group=group)
    held = [
        x[:, layout.offsets[rank] : layout.offsets[rank + 1]] for x, layout in zip(whole, trade.layouts, strict=True)
    ]
    with Copies() as there:
        arrived = tokens_to_heads(trade, held)
    out = arrived[0].transpose(0, 1).contiguous().transpose(0, 1)  # as attention gives it
    with Copies() as back:
        (again,) = heads_to_tokens(Trade((ranges,), (queries,), topology), [out])
    row = (queries.total + 2 * keys.total) * (end - begin)
    away = (queries.lengths[rank] + 2 * keys.lengths[rank]) * (heads - (end - begin))
    return {
        "right": all(torch.equal(x, y[:, :, begin:end]) for x, y in zip(arrived, whole, strict=True)),
        "back": torch.equal(again, held[0]),
        "copies": (there.count, back.count),
        "once": there.numbers <= 8 * batch * width * (away + row),
        "once back": back.numbers == 8 * batch * width * queries.lengths[rank] * heads,
    }


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("heads", [8, 6, 3])
@pytest.mark.parametrize("apart", [False, True])
def test_a_number_is_copied_once_and_heads_alike_together(ranks, heads, batch, apart):
    # Of eight heads, two a member, those before and those behind a rank are cut at once, and its own by themselves.
    most = {8: [(6, 2), (9, 3), (9, 3), (6, 2)]}.get(heads, [(12, 4)] * 4)
    for rank, told in enumerate(ranks.run(copied, 4, heads=heads, batch=batch, apart=apart)):
        assert told["right"]
        assert told["back"]
        assert told["once back"]
        there, back = told["copies"]
        assert back <= most[rank][1]
        if not apart:  # else what arrived goes to its two places
            assert told["once"]
            assert there <= most[rank][0]


@given(st.integers(1, 40), st.integers(2, 9), st.sampled_from([1, 2, 4]), st.data())
def test_runs_are_of_all_others_once_and_cut_what_each_would_be_sent(heads, world, group, data):
    ranges = split_heads(heads * group, world)
    shared = tuple(key_heads(each, group) for each in ranges)
    mine = data.draw(st.integers(0, world - 1))
    runs = _runs((ranges, shared, shared), mine)
    assert [member for run in runs for member in run] == [member for member in range(world) if member != mine]
    x = torch.arange(heads * group)[None, None, :, None]
    for each in (ranges, shared):
        for run in runs:
            if each[run[0]][0] == each[run[0]][1]:
                continue
            for member, part in zip(run, _cut(x, each, run), strict=True):
                assert part.flatten().tolist() == list(range(*each[member]))
