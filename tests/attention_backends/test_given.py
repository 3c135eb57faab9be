"""Ranks tell apart what they were given by its shapes."""

import torch

from attention_backends.given import shapes, total
from attention_backends.header import checksum


def test_shapes_dtypes_absences_and_whole_numbers_tell_inputs_apart():
    one, other = {"x": torch.zeros(2, 3), "mask": None}, {"x": torch.zeros(2, 3), "mask": torch.ones(2)}
    assert shapes(one) == shapes({"mask": None, "x": torch.ones(2, 3)})
    told = [one, other, one | {"x": torch.zeros(3, 2)}, one | {"x": torch.ones(2, 3).bfloat16()}, one | {"frames": 2}]
    assert len({checksum(shapes(each)) for each in told}) == 5


def test_timesteps_are_added_up_exactly():
    assert total(torch.tensor([1.0, 2.5], dtype=torch.bfloat16)) == 3.5
    assert total(None) == 0
