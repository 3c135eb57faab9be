"""Operators against the definition in float64, and the tables that name them."""

import math

import pytest
import torch
from cases import reference

from attention_backends.catalog import KERNELS
from attention_backends.kernels import OPERATORS, attend, attend_backward, choose

ON_CPU = ("math", "cpu_flash")


def test_every_row_has_its_operator():
    for kernel in KERNELS.values():
        assert not kernel.operator or kernel.operator in OPERATORS
    assert set(OPERATORS) == {kernel.operator for kernel in KERNELS.values() if kernel.operator} | {"cpu_flash"}


@pytest.mark.parametrize("operator", ON_CPU)
@pytest.mark.parametrize(("key_heads", "is_causal", "bias"), [(4, False, True), (2, True, False), (1, False, False)])
def test_an_operator_equals_the_definition(operator, key_heads, is_causal, bias):
    generator = torch.Generator().manual_seed(0)
    q, grad = (torch.randn(2, 7, 4, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    k, v = (torch.randn(2, 7, key_heads, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    added = torch.randn(2, 1, 7, 7, generator=generator, dtype=torch.float64) if bias else None
    if added is not None:
        added[:, :, 3] = -math.inf
    exact = [x.clone().requires_grad_() for x in (q, k, v)]
    expected = reference(*exact, added, is_causal, None)
    (expected * grad).sum().backward()
    out, lse = attend(operator, q, k, v, added, is_causal=is_causal)
    found = attend_backward(operator, grad, q, k, v, out, lse, added, is_causal=is_causal)
    assert (out - expected).abs().max() < 1e-12
    assert (lse[:, :, 3] == -math.inf).all() == bias
    for gradient, x in zip(found, exact, strict=True):
        assert (gradient - x.grad).abs().max() < 1e-12


@pytest.mark.parametrize("operator", ON_CPU)
@pytest.mark.parametrize(("queries", "keys"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_attend_to_is_0(operator, queries, keys):
    q, kv = torch.randn(1, queries, 2, 8), torch.randn(1, keys, 2, 8)
    out, lse = attend(operator, q, kv, kv)
    assert torch.equal(out, torch.zeros(1, queries, 2, 8))
    assert torch.equal(lse, torch.full((1, 2, queries), -math.inf))
    grads = attend_backward(operator, out, q, kv, kv, out, lse, None)
    assert [grad.shape for grad in grads] == [q.shape, kv.shape, kv.shape]


@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        ("_native_flash", "runs on cuda; the tensors are on cpu"),
        ("sage", "kernel='auto' picks one that fits"),
    ],
)
def test_a_kernel_that_cannot_says_why(kernel, says):
    x = torch.randn(1, 3, 2, 8)
    with pytest.raises(ValueError, match=says):
        choose(kernel, x, x, mask=False, lse=False)


def test_auto_takes_the_definition_for_values_of_another_width():
    q, v = torch.randn(1, 3, 2, 8), torch.randn(1, 3, 2, 6)
    assert choose("auto", q, v, mask=False, lse=True) == "math"
    assert choose("native", q, q, mask=True, lse=True) == "cpu_flash"
