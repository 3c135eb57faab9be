"""Two ranks, each a thread of this process with gloo between them: one tells, the other hears the same."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch.utils._pytree import tree_flatten

from launcher.worker.telling import Shape, hear, hear_tensors, shapes, tell, tell_tensors


@pytest.fixture(scope="module")
def pair() -> list[dist.ProcessGroup]:
    store = dist.HashStore()
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(lambda rank: dist.ProcessGroupGloo(store, rank, 2, timedelta(seconds=20)), range(2)))


def heard(pair: list[dist.ProcessGroup], value: Any) -> Any:
    """What the second rank makes of it."""
    with ThreadPoolExecutor(2) as threads:
        told = threads.submit(tell_tensors, value, pair[0])
        found = threads.submit(lambda: hear_tensors(hear(pair[1]), pair[1])).result()
        told.result()
    return found


VALUES = [
    torch.arange(6.0).reshape(2, 3),
    (torch.ones(2, 3).mT, None, [torch.zeros(1, dtype=torch.bool)], {"a": torch.tensor(7), "b": "words"}),
    (torch.full((1, 2), 0.5, dtype=torch.bfloat16), torch.ones(0, 3), torch.tensor(2, dtype=torch.int64), 1.5, True),
    Transformer2DModelOutput(sample=torch.ones(2)),
]


@pytest.mark.parametrize("value", VALUES, ids=["a tensor", "containers", "dtypes", "an output of diffusers"])
def test_the_others_hear_what_one_tells(pair, value):
    (mine, form), (theirs, other) = tree_flatten(value), tree_flatten(heard(pair, value))
    assert form == other
    for one, two in zip(mine, theirs, strict=True):
        assert type(one) is type(two)
        if isinstance(one, torch.Tensor):
            assert one.dtype == two.dtype
            assert torch.equal(one, two)
        else:
            assert one == two


def test_shapes_stand_for_tensors():
    assert shapes((torch.ones(2, 0), None)) == (Shape((2, 0), torch.float32), None)


def test_what_json_can_not_say_is_refused_before_anything_is_sent(pair):
    with pytest.raises(TypeError):
        tell((torch.float32,), pair[0])
    assert torch.equal(heard(pair, torch.ones(1)), torch.ones(1))


def test_nothing_that_comes_is_unpickled(pair, monkeypatch):
    monkeypatch.setattr(pickle, "loads", lambda *_, **__: pytest.fail("unpickled"))
    monkeypatch.setattr(pickle, "Unpickler", lambda *_, **__: pytest.fail("unpickled"))
    heard(pair, VALUES[1])
