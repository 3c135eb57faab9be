"""Who holds what."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from attention_backends.layout import split_lengths


@given(st.integers(0, 10_000), st.integers(1, 64))
def test_lengths_are_those_of_tensor_split(total, parts):
    assert split_lengths(total, parts) == tuple(len(part) for part in torch.arange(total).tensor_split(parts))
