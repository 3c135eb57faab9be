"""Who holds what, against torch's own splitting."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attention_backends.layout import Layout, key_heads, split_heads, split_lengths


@given(total=st.integers(0, 200), parts=st.integers(1, 20))
def test_shards_are_tensor_splits(total, parts):
    assert split_lengths(total, parts) == tuple(len(part) for part in torch.arange(total).tensor_split(parts))


@given(total=st.integers(0, 500), shares=st.lists(st.integers(1, 9), min_size=1, max_size=12).map(tuple))
def test_uneven_shares_are_in_proportion(total, shares):
    lengths = split_lengths(total, len(shares), shares)
    assert sum(lengths) == total
    if len(set(shares)) == 1:
        assert lengths == split_lengths(total, len(shares))
    for length, share in zip(lengths, shares, strict=True):
        assert length >= 0
        assert abs(length - total * share / sum(shares)) <= 1


def test_heads_follow_the_shares_of_a_row():
    assert split_heads(24, 2, (2, 1)) == ((0, 16), (16, 24))
    assert split_heads(24, 2, (2, 1, 1, 2)) == ((0, 12), (12, 24))  # both places have half in all rows together
    assert split_heads(24, 1, (2, 1)) == ((0, 24),)


@given(kv_heads=st.integers(1, 6), group=st.integers(1, 6), parts=st.integers(1, 8))
def test_query_heads_find_the_key_heads_they_read(kv_heads, group, parts):
    ranges = split_heads(kv_heads * group, parts)
    assert [head for begin, end in ranges for head in range(begin, end)] == list(range(kv_heads * group))
    for begin, end in ranges:
        read = {head // group for head in range(begin, end)}
        assert read == set(range(*key_heads((begin, end), group)))


def test_rows_hold_what_their_members_hold():
    assert Layout((3, 0, 5, 1)).rows(2) == Layout((3, 6))
    assert Layout((3, 0, 5, 1)).offsets == (0, 3, 3, 8, 9)


def test_a_rank_that_holds_something_else_is_told():
    with pytest.raises(ValueError, match=r"keys: rank 1 holds 4 tokens where the layout \[3, 5\] says 5"):
        Layout((3, 5)).check(1, 4, "keys")
