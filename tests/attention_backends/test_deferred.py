"""A tensor that is put off: what follows it, what computes it, and that it is what was said."""

import pytest
import torch
from torch.nn import functional

from attention_backends.deferred import Deferred, now


class Counted:
    """A tensor that is put off, and how often it was computed."""

    def __init__(self, *shape: int, waits: bool = False) -> None:
        self.value, self.times = torch.randn(*shape, generator=torch.Generator().manual_seed(0)), 0
        self.put_off = Deferred(self.make, shape, self.value, waits=waits)

    def make(self) -> torch.Tensor:
        self.times += 1
        return self.value


FOLLOWED = {
    "unflatten": lambda x: x.unflatten(-1, (-1, 4)),
    "flatten": lambda x: x.flatten(1, 2),
    "transpose": lambda x: x.transpose(1, -1),
    "to": lambda x: x.to(torch.float64),
    "norm": lambda x: torch.nn.RMSNorm(8, eps=1e-6)(x),
    "gelu": lambda x: torch.nn.GELU(approximate="tanh")(x),
    "silu": lambda x: torch.nn.SiLU()(x),
    "dropout": lambda x: torch.nn.Dropout(0.0)(x),
    "cat": lambda x: torch.cat([torch.ones(2, 3, 8), x], dim=1),
    "one after the other": lambda x: functional.gelu(torch.cat([x, x], dim=-1)).unflatten(2, (2, 8)).transpose(1, 2),
}


@pytest.mark.parametrize("change", FOLLOWED.values(), ids=FOLLOWED)
def test_what_keeps_a_known_shape_is_put_off(change):
    x = Counted(2, 5, 8)
    out = change(x.put_off)
    assert isinstance(out, Deferred)
    assert x.times == 0
    expected = change(x.value)
    assert (out.shape, out.dtype, out.device) == (expected.shape, expected.dtype, expected.device)
    assert torch.equal(now(out), expected)
    assert torch.equal(out.now(), expected)
    assert x.times == 1


NAMED = {
    "flatten": lambda x: x.flatten(start_dim=1),
    "transpose": lambda x: x.transpose(dim0=1, dim1=2),
    "split": lambda x: x.split(split_size=4, dim=-1)[1],
    "chunk": lambda x: torch.chunk(input=x, chunks=2, dim=-1)[1],
    "linear": lambda x: functional.linear(input=x, weight=torch.ones(2, 8)),
    "gelu": lambda x: functional.gelu(input=x),
    "cat": lambda x: torch.cat(tensors=[x, x], dim=1),
    "cat into another": lambda x: torch.cat([x, x], out=torch.empty(0)),
    "unflatten": lambda x: x.unflatten(dim=-1, sizes=(2, 4)),
    "norm of another dtype": lambda x: functional.layer_norm(x.double(), (8,)),
}


@pytest.mark.parametrize("change", NAMED.values(), ids=NAMED)
def test_arguments_may_be_given_by_name(change):
    x = Counted(2, 5, 8)
    assert torch.equal(now(change(x.put_off)), change(x.value))


def test_torch_says_what_is_wrong_with_arguments():
    x = Deferred(
        lambda: torch.ones(2, 12), (2, 12), torch.ones(1), columns=lambda begin, end: torch.ones(2, end - begin)
    )
    for sizes in ([9, 4], [3, 3]):
        with pytest.raises(RuntimeError, match="split_with_sizes expects split_sizes to sum exactly to 12"):
            torch.split(x, sizes, dim=-1)
    with pytest.raises(IndexError, match="out of range"):
        x.transpose(0, 5)


def test_it_is_computed_with_a_gradient_if_it_was_put_off_so():
    weight = torch.ones(3, requires_grad=True)
    for kept in (True, False):
        with torch.set_grad_enabled(kept):
            put_off = Deferred(lambda: weight * 2, (3,), weight)
            after = functional.gelu(put_off)
        with torch.set_grad_enabled(not kept):
            assert after.requires_grad == put_off.requires_grad == kept
            assert (put_off.grad_fn is not None) == kept
    with torch.inference_mode():
        put_off = Deferred(lambda: weight * 2, (3,), weight)
    assert now(put_off).is_inference()


def test_a_change_in_place_in_between_is_an_error():
    x = Counted(2, 5, 8)
    after, joined = functional.silu(x.put_off), torch.cat([x.put_off, x.put_off], dim=-1)
    x.put_off.mul_(2.0)
    again = functional.silu(x.put_off)
    for late in (after, joined):
        with pytest.raises(RuntimeError, match="was changed in place after a layer was given it"):
            late.sum()
    assert torch.equal(now(again), functional.silu(x.value))


def test_its_shape_may_change_in_place():
    put_off = Counted(2, 5, 8).put_off
    put_off.unsqueeze_(0)
    assert put_off.shape == (1, 2, 5, 8)


def test_a_computation_that_failed_is_not_done_again():
    put_off = Deferred(lambda: torch.ones(2) @ torch.ones(3), (2,), torch.ones(1))
    for words in ("inconsistent tensor size", "has failed before"):
        with pytest.raises(RuntimeError, match=words):
            put_off + 1


COMPUTED = {
    "sum": lambda x: x + 1,
    "in place": lambda x: x.clone().mul_(2),
    "index": lambda x: x[..., :3],
    "method": lambda x: x.reshape(-1),
    "in a list": lambda x: torch.stack([x, x]),
    "split": lambda x: torch.split(x, 3, dim=-1)[1],
    "linear": lambda x: functional.linear(x, torch.ones(2, 8)),
    "numpy": lambda x: torch.tensor(x.numpy()),
    "below torch's functions": lambda x: torch.ops.aten.neg(x),
}


@pytest.mark.parametrize("change", COMPUTED.values(), ids=COMPUTED)
def test_anything_else_computes_it_once(change):
    x = Counted(2, 5, 8)
    assert torch.equal(change(x.put_off), change(x.value))
    change(x.put_off)
    assert x.times == 1


def test_its_size_is_known_without_computing_it():
    x = Counted(2, 5, 8)
    known = x.put_off.shape, x.put_off.numel(), x.put_off.ndim, x.put_off.size(1), x.put_off.dtype, x.put_off.is_cuda
    assert known == ((2, 5, 8), 80, 3, 5, torch.float32, False)
    assert x.times == 0


def test_columns_are_computed_by_themselves():
    weight, x = torch.randn(12, 4), torch.randn(2, 5, 4)
    asked = []

    def columns(begin: int, end: int) -> torch.Tensor:
        asked.append((begin, end))
        return functional.linear(x, weight[begin:end])

    whole = Deferred(lambda: functional.linear(x, weight), (2, 5, 12), x, columns=columns)
    first, rest = torch.split(whole, [9, 3], dim=-1)
    query, key, value = first.chunk(3, dim=-1)
    torch.testing.assert_close(value.now(), functional.linear(x, weight[6:9]))
    torch.testing.assert_close(rest.now(), functional.linear(x, weight[9:]))
    assert asked == [(6, 9), (9, 12)]
    assert key.shape == query.shape == (2, 5, 3)


@pytest.mark.parametrize("grad", [False, True])
def test_a_product_with_what_waits_begins_with_what_does_not(grad):
    order = []
    attention, mlp = torch.randn(2, 5, 4), torch.randn(2, 5, 8, requires_grad=grad)
    layer = torch.nn.Linear(12, 3)
    late = Deferred(lambda: order.append("attention") or attention, (2, 5, 4), attention, waits=True)
    ready = Deferred(lambda: order.append("mlp") or mlp, (2, 5, 8), mlp)
    with torch.set_grad_enabled(grad):
        out = layer(torch.cat([late.to(torch.float32), ready], dim=2))
        torch.testing.assert_close(out, layer(torch.cat([attention, mlp], dim=2)))
    assert order == ["mlp", "attention"]
    assert out.requires_grad == grad
    if grad:
        out.sum().backward()
        torch.testing.assert_close(mlp.grad, layer.weight[:, 4:].sum(0).expand(2, 5, 8))


def test_a_shape_that_was_not_said_is_an_error():
    put_off = Deferred(lambda: torch.ones(3), (2,), torch.ones(1))
    with pytest.raises(RuntimeError, match=r"gave \(3,\) .* where \(2,\) .* enable\(model, overlap=False\)"):
        put_off + 1


def test_what_is_known_of_it_is_read_without_torchs_way_to_a_subclass(monkeypatch):
    """Model code reads it some 150 times in a layer."""
    put_off = Counted(2, 5, 8).put_off
    monkeypatch.setattr(Deferred, "__torch_function__", None)
    assert (put_off.shape, put_off.ndim, put_off.dtype, put_off.device.type) == ((2, 5, 8), 3, torch.float32, "cpu")
