"""What else sees modules of a block run, while keys travel: it finds what it would find in one process."""

import itertools
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist

import attention_backends
from attention_backends import unified
from attention_backends.deferred import Deferred
from attention_backends.schedule import auto
from attention_backends.wire import RankFailedError

BLOCK = "single_transformer_blocks.0"
SEEN = ["attn", "attn.to_q", "attn.norm_q", "proj_mlp", "act_mlp", "proj_out"]
ANY = {"ring_degree": 2, "unified_anything": True}


def seen(group: dist.ProcessGroup, rank: int | None) -> dict[str, dict[str, Any]]:
    """`one` of each module."""
    return {path: one(group, path, rank) for path in SEEN}


def one(group: dist.ProcessGroup, path: str, rank: int | None) -> dict[str, Any]:
    """A forward and its backward with hooks on one module, on all ranks or one, against those without a hook."""
    model, inputs, found, meanwhile = tiny.flux(), tiny.flux_inputs(17, 7), [], []
    model(**inputs)[0].square().mean().backward()
    expected = [parameter.grad for parameter in model.parameters()]
    alone = model(**inputs)[0].detach()
    attention_backends.enable(model, process_group=group, **ANY)
    module, events = model.get_submodule(f"{BLOCK}.{path}"), []
    if rank in (None, group.rank()):
        module.register_forward_hook(lambda _, given, output: found.extend([*given, output]))
        module.register_full_backward_hook(lambda *_: events.append("backward"))
    model.zero_grad()
    with pytest.MonkeyPatch.context() as patch:  # what a schedule is chosen by, which ranks must know alike
        patch.setattr(unified, "auto", lambda *told: meanwhile.append(told[-1]) or auto(*told))
        out = model(**inputs)[0]
    out.square().mean().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    for gradient in gradients:
        dist.all_reduce(gradient, group=group)
    attention_backends.disable(model)
    return {
        "error": (out - alone).abs().max().item(),
        "gradients": max((a - b).abs().max().item() for a, b in zip(gradients, expected, strict=True)),
        "meanwhile": meanwhile,
        "put off": any(isinstance(x, Deferred) for x in found),
        "seen": (len(found) > 0, events),
    }


@pytest.mark.slow
@pytest.mark.parametrize("rank", [None, 1])
def test_a_hook_sees_tensors_and_gradients_as_the_model_has_them(ranks, rank):
    found = ranks.run(seen, 2, rank=rank)
    for here, path in itertools.product(range(2), SEEN):
        told = found[here][path]
        assert told["error"] < 1e-12
        assert told["gradients"] < 1e-12
        assert not told["put off"]
        assert told["meanwhile"] == found[0][path]["meanwhile"]
        assert any(told["meanwhile"])
        assert told["seen"] == ((True, ["backward"]) if rank in (None, here) else (False, []))


class Double(torch.autograd.Function):
    """What torch's own functions never see: x W."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.t()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, weight = ctx.saved_tensors
        return grads[0] @ weight, grads[0].flatten(0, -2).t() @ x.flatten(0, -2)


class Foreign(torch.nn.Linear):
    """A layer as packages for quantised weights have them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = Double.apply(x, self.weight)
        return out + self.bias


def _foreign(model: Any) -> None:
    block = model.get_submodule(BLOCK)
    for name in ("proj_out", "proj_mlp"):
        layer = getattr(block, name)
        other = Foreign(layer.in_features, layer.out_features, dtype=torch.float64)
        other.load_state_dict(layer.state_dict())
        setattr(block, name, other)


def _doubles(_: Any, args: Any, kwargs: Any) -> None:
    with torch.no_grad():
        (args[0] if args else kwargs["hidden_states"]).mul_(2.0)


def _in_place(model: Any) -> None:
    model.get_submodule(f"{BLOCK}.attn").register_forward_pre_hook(_doubles, with_kwargs=True)


def _compiled(model: Any) -> None:
    model.get_submodule(f"{BLOCK}.act_mlp").compile(backend="eager")


def _offloaded(model: Any) -> None:
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    attention = model.get_submodule(f"{BLOCK}.attn")
    weights = {name: x.detach().clone() for name, x in attention.state_dict().items()}
    hook = AlignDevicesHook("cpu", offload=True, weights_map=weights, place_submodules=True)
    add_hook_to_module(attention, hook)


CHANGES: dict[str, Callable[[Any], None]] = {
    "foreign layers": _foreign,
    "in place": _in_place,
    "compiled": _compiled,
    "offloaded": _offloaded,
}


def changed(group: dist.ProcessGroup, change: str, grad: bool) -> list[float]:
    """How far a forward, and the gradient of what is drawn, is from that of one process."""

    def each() -> list[torch.Tensor]:
        inputs = tiny.flux_inputs(17, 7)
        inputs["hidden_states"].requires_grad_(grad)
        with torch.set_grad_enabled(grad):
            out = model(**inputs)[0]
        if grad:
            out.square().mean().backward()
        return [out.detach(), inputs["hidden_states"].grad if grad else out.detach()]

    model = tiny.flux()
    CHANGES[change](model)
    alone = each()
    attention_backends.enable(model, process_group=group, **ANY)
    here = each()
    attention_backends.disable(model)
    if grad:
        dist.all_reduce(here[1], group=group)
    return [(a - b).abs().max().item() for a, b in zip(alone, here, strict=True)]


@pytest.mark.parametrize(
    ("change", "grad"),
    [
        ("foreign layers", True),
        ("foreign layers", False),
        ("in place", False),
        ("compiled", False),
        ("offloaded", False),
    ],
)
def test_what_works_in_one_process_works_here(ranks, change, grad):
    for found in ranks.run(changed, 2, change=change, grad=grad):
        assert max(found) < 1e-12


def twice(group: dist.ProcessGroup, mode: dict[str, Any]) -> None:
    model, inputs = tiny.flux(), tiny.flux_inputs(17, 7)
    inputs["hidden_states"].requires_grad_()
    attention_backends.enable(model, process_group=group, **mode)
    try:
        loss = model(**inputs)[0].square().sum()
        (once,) = torch.autograd.grad(loss, inputs["hidden_states"], create_graph=True)
        once.square().sum().backward()
    finally:
        attention_backends.disable(model)


@pytest.mark.parametrize(
    "mode",
    [
        ANY,
        {"ulysses_degree": 2, "ulysses_anything": True},
    ],
)
def test_a_gradient_of_a_gradient_is_refused(ranks, mode):
    for error in ranks.errors(twice, 2, mode=mode):
        assert error is not None
        assert "differentiate twice" in error


def transformed(group: dist.ProcessGroup) -> tuple[str, float]:
    """torch.func's gradient, and a forward after it."""
    model, inputs, told = tiny.flux(), tiny.flux_inputs(17, 7), ""
    alone = model(**inputs)[0]
    attention_backends.enable(model, process_group=group, **ANY)
    try:
        torch.func.grad(lambda x: model(**inputs | {"hidden_states": x})[0].sum())(inputs["hidden_states"])
    except ValueError as error:
        told = str(error)
    off = (model(**inputs)[0] - alone).abs().max().item()
    attention_backends.disable(model)
    return told, off


def test_transforms_of_torch_func_are_refused(ranks):
    for told, off in ranks.run(transformed, 2):
        assert "torch.func's transforms do not go over ranks" in told
        assert off < 1e-12


def autocast(group: dist.ProcessGroup) -> list[float]:
    """Attention takes keys of one dtype and values of another there: largest differences from one process."""
    off = []
    for model, inputs in (
        (tiny.flux(dtype=torch.float32), tiny.flux_inputs(17, 7, dtype=torch.float32)),
        (tiny.qwen(), tiny.qwen_inputs(4, 4, 7)),
    ):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            alone = model(**inputs)[0]
            attention_backends.enable(model, process_group=group, schedule="gather", **ANY)
            off.append((model(**inputs)[0] - alone).abs().max().item() / alone.abs().max().item())
            attention_backends.disable(model)
    return off


def test_autocast_is_that_of_one_process(ranks):
    assert max(off for each in ranks.run(autocast, 2) for off in each) < 2**-7


def kept(group: dist.ProcessGroup) -> list[str]:
    """What is still held after a forward, and after one that failed while keys travelled."""
    model, held, alive = tiny.flux(), [], []

    def note(_: Any, given: Any, output: torch.Tensor) -> None:
        held.append(weakref.ref(output))

    with torch.no_grad():
        state = attention_backends.enable(model, process_group=group, **ANY)
        model.get_submodule(BLOCK).attn.register_forward_hook(note)
        for fails in (False, True):
            if fails:
                model.get_submodule(BLOCK).register_forward_hook(_fail)
            with suppress(FloatingPointError, RankFailedError):
                model(**tiny.flux_inputs(17, 7))
            alive += [f"{fails}: an output" for ref in held if ref() is not None]
            alive += [f"{fails}: an attention"] if state.under_way is not None else []
        attention_backends.disable(model)
    return alive


def _fail(*_: Any) -> None:
    raise FloatingPointError("a fault")


def test_nothing_is_held_after_a_forward(ranks):
    assert ranks.run(kept, 2) == [[], []]
