"""What tells a whole text from a rank's own part of it, where both are as long."""

import torch

from attention_backends.kept_local import KeptLocal, own_parts


def noted(keys: torch.Tensor, own: set[int], queries: int | None = None) -> KeptLocal:
    kept = KeptLocal(["a", "b"])
    query = keys if queries is None else keys[:, :, :1].expand(-1, -1, queries, -1)
    kept.note("b", query, keys, keys, own)
    return kept


def told(*keys: torch.Tensor, own: set[int]) -> str:
    kept = [noted(each, own) for each in keys]
    return kept[0].wrong([each.told() for each in kept])


def test_another_part_on_each_rank_is_too_little():
    whole = torch.randn(2, 3, 16, 8, generator=torch.Generator().manual_seed(0))
    halves = whole.chunk(2, dim=2)
    assert own_parts((16, 5), 2, 0, ()) == {8, 3, 11}
    assert told(*halves, own={8, 3, 11}) == "b"
    # a whole text that happens to be as long as a part: the same on both ranks, but for what one card rounds otherwise
    assert told(halves[0], halves[0] * 1.004, own={8, 3, 11}) == ""
    assert told(whole, whole, own={8}) == ""
    # on one rank alone it can't be a part: the other one holds another number of tokens
    assert told(halves[0], whole[:, :, :7], own={8}) == ""


def test_attention_to_something_else_is_no_part():
    keys = torch.randn(1, 2, 8, 4)
    assert noted(keys, {8}, queries=5).seen == {}
    assert noted(keys, {8}).seen.keys() == {"b"}
    assert len(noted(keys, set()).told()) == len(noted(keys, {8}).told())
