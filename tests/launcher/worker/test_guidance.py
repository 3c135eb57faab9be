"""Two ranks, each a thread of this process with gloo between them, compute one branch of guidance each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from torch.utils._pytree import tree_flatten

from launcher.worker import guidance
from launcher.worker.guidance import Branches, Shapes, _signature, divided
from launcher.worker.telling import Shape, hear, shapes

Told = dict[int, list[Any]]  # what each half's forward was given


@pytest.fixture(scope="module")
def pairs() -> Iterator[list[dist.ProcessGroup]]:
    """A group as each of its two ranks has it."""
    store = dist.HashStore()

    def joined(rank: int) -> dist.ProcessGroup:
        return dist.ProcessGroupGloo(store, rank, 2, timedelta(seconds=20))

    with ThreadPoolExecutor(2) as threads:
        yield list(threads.map(joined, range(2)))


def both(pairs: list[dist.ProcessGroup], work: Callable[[int, dist.ProcessGroup], Any]) -> list[Any]:
    """What the two ranks make."""
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(work, range(2), pairs))


def doubled(x: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor]:
    return (x * 2,)


def known(*args: Any) -> Shapes:
    """The shapes as an earlier job left them, for which the first step would ask the partner."""
    return {_signature(args, {}): (shapes(args[0]),)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_two_calls_each_half_computes_one_and_has_both(pairs, dtype):
    one, two = torch.arange(6.0).reshape(2, 3).to(dtype), torch.ones(2, 3, dtype=dtype)
    computed: Told = {0: [], 1: []}

    def rank(half: int, pair: dist.ProcessGroup) -> list[torch.Tensor]:
        def forward(x: torch.Tensor) -> tuple[torch.Tensor]:
            computed[half].append(x)
            return doubled(x)

        branches, found = Branches(forward, half, pair, known(one)), []
        for _ in range(2):  # steps
            (first,) = branches.calls(one)
            assert half == 0 or first.isnan().all()  # what is read too early is seen
            (second,) = branches.calls(two)
            found += [first, second]
        return found

    for found in both(pairs, rank):
        assert all(map(torch.equal, found, [one * 2, two * 2] * 2))
    assert all(x is one for x in computed[0])
    assert all(x is two for x in computed[1])
    assert [len(computed[half]) for half in (0, 1)] == [2, 2]


KINDS: tuple[Callable[..., Any], ...] = (
    tuple,
    list,
    lambda x: x[0],
    lambda x: Transformer2DModelOutput(sample=x[0]),
    lambda x: Transformer2DModelOutput(sample=x),
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_computed_in_halves_whatever_comes_out(pairs, kind):
    given = torch.arange(8.0).reshape(2, 4)
    text, time, words = torch.tensor([[1.0], [10.0]]), torch.tensor(3.0), ["yes", "no"]

    def rank(half: int, pair: dist.ProcessGroup) -> Any:
        def forward(x: torch.Tensor, text: torch.Tensor, time: torch.Tensor, words: list[str], flag: bool) -> Any:
            assert (x.shape, text.shape, words, flag) == ((1, 4), (1, 1), [["yes"], ["no"]][half], True)
            return kind([(x + text + time).mT.contiguous().mT])  # in another order of memory

        return Branches(forward, half, pair, {}).batch(given, text, time=time, words=words, flag=True)

    for found in both(pairs, rank):
        assert torch.equal(torch.cat(tree_flatten(found)[0]), given + text + time)
        assert type(found) is type(kind([given]))
        entries = getattr(found, "sample", found)
        assert not isinstance(entries, list) or len(entries) == 2  # as Z-Image's pipeline for masks has them


def test_a_batch_of_two_pictures_is_computed_in_halves_of_two(pairs):
    given, text = torch.arange(16.0).reshape(4, 4), torch.ones(2, 7)

    def rank(half: int, pair: dist.ProcessGroup) -> Any:
        def forward(x: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor]:
            assert (len(x), len(text)) == (2, 2)  # what is not of both branches is whole
            return (x + text.sum(),)

        return Branches(forward, half, pair, {}, lambda: 2).batch(given, text)

    for found in both(pairs, rank):
        assert torch.equal(found[0], given + 14)


@pytest.mark.parametrize("size", [1, 3])
def test_a_batch_without_two_branches_is_computed_by_both(pairs, size):
    given = torch.ones(size, 2)
    for found in both(pairs, lambda half, pair: Branches(doubled, half, pair, {}).batch(x=given)):
        assert torch.equal(found[0], given * 2)


def test_branches_of_different_shapes_are_an_error_and_no_exchange(pairs):
    one, two = torch.ones(2, 3), torch.ones(2, 4)
    branches = Branches(doubled, 1, pairs[1], known(one))
    branches.calls(one)
    with pytest.raises(ValueError, match="cfg_degree=2: the two branches of guidance have outputs of different shapes"):
        branches.calls(two)


def test_the_first_step_asks_for_the_shapes_once(pairs, monkeypatch):
    heard, given = [], [torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 4)]  # the last is of another size
    monkeypatch.setattr(guidance, "hear", lambda pair: heard.append(hear(pair)) or heard[-1])

    def rank(half: int, pair: dist.ProcessGroup) -> list[Any]:
        kept: Shapes = {}
        forward = lambda x, scale: (torch.ones(2, 5, dtype=torch.float16), None)  # noqa: E731
        return [Branches(forward, half, pair, kept).calls(x, scale=2) for x in given]

    for buffer, nothing in both(pairs, rank)[1]:
        assert (buffer.shape, buffer.dtype, nothing) == ((2, 5), torch.float16, None)
        assert buffer.isnan().all()
    assert heard == [(Shape((2, 5), torch.float16), None)] * 2


def test_a_signature_tells_sizes_types_and_plain_values_apart():
    given = [
        ((torch.ones(2, 3),), {}),
        ((torch.ones(3, 2),), {}),
        ((torch.ones(2, 3, dtype=torch.float16),), {}),
        ((torch.ones(2, 3),), {"scale": 1}),
        ((torch.ones(2, 3),), {"scale": 2}),
        ((torch.ones(2, 3), [torch.ones(1)]), {}),
    ]
    found = [_signature(*each) for each in given]
    assert all(one != two for one, two in itertools.combinations(found, 2))
    assert _signature((torch.zeros(2, 3),), {}) == found[0]


@pytest.mark.parametrize("branches", ["calls", "batch"])
def test_a_transformer_has_its_own_forward_back(pairs, branches):
    plain, hooked = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    hooked.forward = own = lambda x: x  # as an offload hook leaves it
    for model in (plain, hooked):
        with pytest.raises(RuntimeError, match="it broke"), divided(model, branches, 0, pairs[0], {}):
            assert isinstance(model.forward.__self__, Branches)
            raise RuntimeError("it broke")
    assert "forward" not in vars(plain)
    assert hooked.forward is own
