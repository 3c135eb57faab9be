"""What needs no keys runs while keys travel: in which order, that it changes no result, and where it does not."""

from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist
from order import INPUTS, order

import attention_backends
from attention_backends.wire import RankFailedError


def on_and_off(group: dist.ProcessGroup, family: str, schedule: str, mode: dict[str, Any]) -> dict[str, Any]:
    model, inputs, found = getattr(tiny, family)(), INPUTS[family](), {}
    with torch.no_grad():
        alone = model(**inputs)[0]
        for overlap in (False, True):
            attention_backends.enable(model, process_group=group, schedule=schedule, overlap=overlap, **mode)
            attention_backends.reset_counters()
            found[overlap] = model(**inputs)[0], attention_backends.counters()
            attention_backends.disable(model)
    (before, moved), (after, moved_then) = found[False], found[True]
    return {
        "same": torch.equal(before, after),
        "apart": (before - after).abs().max().item(),
        "error": (after - alone).abs().max().item(),
        "moved alike": moved == moved_then,
    }


@pytest.mark.parametrize(("family", "world"), [("flux", 2), ("flux", 3), ("flux2", 3), ("flux2", 4), ("qwen", 3)])
@pytest.mark.parametrize("schedule", ["gather", "staged"])
def test_it_is_the_same_result_by_the_same_messages(ranks, family, world, schedule):
    mode = {"ring_degree": world, "unified_anything": True}
    if (family, world) == ("flux2", 4):
        mode = {"ring_degree": 2, "ulysses_degree": 2, "unified_anything": True}
    exact = 1e-12 if family != "qwen" else 1e-5
    for told in ranks.run(on_and_off, world, family=family, schedule=schedule, mode=mode):
        assert told["moved alike"] or "ulysses_degree" in mode
        assert told["apart"] < exact
        assert told["error"] < exact
        assert told["same"] or family != "qwen"  # it has no product of two halves, whose sum is in another order


PROJECTIONS = ["to_q", "to_k", "to_v"]
ADDED = ["add_q_proj", "add_k_proj", "add_v_proj"]
ORDERS = [
    ("flux", "single_transformer_blocks.0", False, ["proj_mlp", *PROJECTIONS, "send", "attend", "proj_out"]),
    (
        "flux",
        "single_transformer_blocks.0",
        True,
        ["to_k", "to_v", "send", "proj_mlp", "proj_out 64", "to_q", "attend", "proj_out"],
    ),
    ("flux2", "single_transformer_blocks.0", False, ["to_qkv_mlp_proj", "send", "attend", "to_out"]),
    (
        "flux2",
        "single_transformer_blocks.0",
        True,
        [
            *("to_qkv_mlp_proj 64", "to_qkv_mlp_proj 128", "send", "to_qkv_mlp_proj 192"),
            *("to_out 64", "to_qkv_mlp_proj", "attend", "to_out"),
        ],
    ),
    ("qwen", "transformer_blocks.0", False, [*PROJECTIONS, *ADDED, "send", "attend"]),
    (
        "qwen",
        "transformer_blocks.0",
        True,
        ["add_k_proj", "to_k", "add_v_proj", "to_v", "send", "add_q_proj", "to_q", "attend"],
    ),
]


@pytest.mark.parametrize(("family", "path", "overlap", "expected"), ORDERS)
def test_keys_leave_first_and_what_needs_none_of_them_runs_before_the_attention(ranks, family, path, overlap, expected):
    for events in ranks.run(order, 2, family=family, path=path, ring_degree=2, overlap=overlap):
        known = [event for event in events if event.split(" ")[0] in {word.split(" ")[0] for word in expected}]
        assert known == expected


def gradients(group: dist.ProcessGroup, family: str, checkpointed: bool) -> float:
    """How far any parameter's gradient is from one process's."""

    def each(model: Any) -> list[torch.Tensor]:
        model(**INPUTS[family]())[0].square().mean().backward()
        return [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]

    alone, model = getattr(tiny, family)(), getattr(tiny, family)()
    expected = each(alone)
    attention_backends.enable(model, process_group=group, ring_degree=3, unified_anything=True, schedule="staged")
    if checkpointed:
        model.train().enable_gradient_checkpointing()
    found = each(model)
    for gradient in found:
        dist.all_reduce(gradient, group=group)
    attention_backends.disable(model)
    return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(("family", "checkpointed"), [("flux", True), ("flux2", False)])
def test_gradients_are_those_of_one_process(ranks, family, checkpointed):
    assert max(ranks.run(gradients, 3, family=family, checkpointed=checkpointed)) < 1e-12


def with_lora(group: dist.ProcessGroup, family: str, targets: list[str]) -> float:
    from peft import LoraConfig

    model, inputs = getattr(tiny, family)(), INPUTS[family]()
    model.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=targets))
    with torch.no_grad():
        alone = model(**inputs)[0]
        attention_backends.enable(model, process_group=group, ring_degree=2, ring_anything=True)
        error = (model(**inputs)[0] - alone).abs().max().item()
        attention_backends.disable(model)
    return error


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("flux", ["to_q", "to_k", "proj_mlp", "proj_out"]),
        ("flux2", ["to_q", "to_qkv_mlp_proj", "single_transformer_blocks.0.attn.to_out"]),
    ],
)
def test_a_lora_may_be_on_what_runs_meanwhile(ranks, family, targets):
    assert max(ranks.run(with_lora, 2, family=family, targets=targets)) < 1e-12


def failing(group: dist.ProcessGroup) -> tuple[str, float]:
    """One rank fails while keys travel; then all go on."""
    model, inputs = tiny.flux(), tiny.flux_inputs(17, 7)
    mlp, told = model.single_transformer_blocks[0].proj_mlp, ""
    with torch.no_grad():
        alone = model(**inputs)[0]
        forward = mlp.forward

        def fault(x: torch.Tensor) -> torch.Tensor:
            if group.rank() == 1 and not told:
                raise FloatingPointError("in the MLP")
            return forward(x)

        mlp.forward = fault
        attention_backends.enable(model, process_group=group, ring_degree=3, ring_anything=True)
        try:
            model(**inputs)
        except (FloatingPointError, RankFailedError) as error:
            told = str(error)
        error = (model(**inputs)[0] - alone).abs().max().item()
        attention_backends.disable(model)
        del mlp.forward
    return told, error


def test_a_rank_that_fails_while_keys_travel_is_heard_of(ranks):
    for told, error in ranks.run(failing, 3):
        assert "in the MLP" in told
        assert error < 1e-12


def marked(group: dist.ProcessGroup, path: str) -> dict[str, tuple[int, int]]:
    model = tiny.flux()
    plan = {
        "split": {
            "": {
                "hidden_states": {"dim": 1},
                "encoder_hidden_states": {"dim": 1},
                "img_ids": {"dim": -2, "like": "hidden_states"},
                "txt_ids": {"dim": -2, "like": "encoder_hidden_states"},
            }
        },
        "gather": {"proj_out": {"dim": 1}},
        "meanwhile": [path],
    }
    inputs = tiny.flux_inputs(17, 7)
    with torch.no_grad():
        alone = model(**inputs)[0]
        state = attention_backends.enable(
            model, process_group=group, ring_degree=2, unified_anything=True, cp_plan=plan
        )
        assert (model(**inputs)[0] - alone).abs().max().item() < 1e-12
        attention_backends.disable(model)
    return state.meanwhile


def test_a_plan_may_say_what_runs_meanwhile(ranks):
    for told in ranks.run(marked, 2, path="single_transformer_blocks.*.proj_mlp"):
        assert told == {"single_transformer_blocks.0.attn": (0, 2 * 64 * 256)}
    for error in ranks.errors(marked, 2, path="single_transformer_blocks.*.proj_mpl"):
        assert error.startswith("PlanError: ")
        assert error.endswith("has no module 'proj_mpl' there; nearest: proj_mlp, proj_out")
