"""Plans in diffusers' own form: what they split and gather, and what they are told where they can't."""

from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist

import attention_backends

ANY = {"ring_degree": 3, "unified_anything": True}
TWO = {"ring_degree": 2, "unified_anything": True}


def as_an_object(group: dist.ProcessGroup, family: str) -> tuple[float, str]:
    model = getattr(tiny, family)()
    inputs = {
        "flux": lambda: tiny.flux_inputs(17, 7), "wan": lambda: tiny.wan_inputs(2, 2, 3, 7),
        "ltx": lambda: tiny.ltx_inputs(2, 2, 3, 7), "qwen": lambda: tiny.qwen_inputs(4, 4, 7),
    }[family]()  # fmt: skip
    inputs.pop("return_dict")
    with torch.no_grad():
        alone = model(**inputs)
        attention_backends.enable(model, process_group=group, **ANY)
        shared = model(**inputs)
        attention_backends.disable(model)
    return (shared.sample - alone.sample).abs().max().item(), type(shared).__name__


@pytest.mark.slow
@pytest.mark.parametrize("family", ["flux", "wan", "ltx", "qwen"])
def test_an_output_may_be_an_object(ranks, family):
    for error, kind in ranks.run(as_an_object, 3, family=family):
        assert error < 1e-5
        assert kind == "Transformer2DModelOutput"


def whole_output(group: dist.ProcessGroup) -> float:
    """A plan that gathers what the model itself gives, an object."""
    plan = dict(tiny.flux()._cp_plan)
    plan["norm_out"] = plan.pop("proj_out")
    model, inputs = tiny.flux(), tiny.flux_inputs(17, 7)
    inputs.pop("return_dict")
    with torch.no_grad():
        alone = model(**inputs).sample
        attention_backends.enable(model, process_group=group, cp_plan=plan, **ANY)
        shared = model(**inputs).sample
        attention_backends.disable(model)
    return (shared - alone).abs().max().item()


def test_what_is_gathered_may_be_any_module(ranks):
    assert max(ranks.run(whole_output, 3)) < 1e-10


def renamed(group: dist.ProcessGroup, image: int, text: int) -> float:
    model, inputs = tiny.flux(), tiny.flux_inputs(image, text)
    plan = dict(model._cp_plan)
    root = plan.pop("")
    plan[""] = {name: root[name] for name in ("encoder_hidden_states", "txt_ids", "img_ids", "hidden_states")}
    with torch.no_grad():
        alone = model(**inputs)[0]
        attention_backends.enable(model, process_group=group, cp_plan=plan, **TWO)
        error = (model(**inputs)[0] - alone).abs().max().item()
        attention_backends.disable(model)
    return error


@pytest.mark.parametrize(("image", "text"), [(5, 4), (4, 5), (3, 4), (64, 65), (1, 2), (2, 1)])
def test_a_gather_asks_where_streams_look_alike(ranks, image, text):
    assert max(ranks.run(renamed, 2, image=image, text=text)) < 1e-10


def three_dimensional_ids(group: dist.ProcessGroup) -> float:
    model, inputs = tiny.flux(), tiny.flux_inputs(17, 7)
    batched = inputs | {"img_ids": inputs["img_ids"][None], "txt_ids": inputs["txt_ids"][None]}
    with torch.no_grad():
        alone = model(**inputs)[0]
        attention_backends.enable(model, process_group=group, **ANY)
        error = (model(**batched)[0] - alone).abs().max().item()
        attention_backends.disable(model)
    return error


def test_ids_with_a_batch_dimension_are_split_as_well(ranks):
    assert max(ranks.run(three_dimensional_ids, 3)) < 1e-10


def given(group: dist.ProcessGroup, family: str, change: str) -> None:
    model = getattr(tiny, family)()
    arguments: dict[str, Any] = dict(ANY)
    if family == "flux":
        inputs = tiny.flux_inputs(17, 7)
    elif family == "wan":
        inputs = tiny.wan_inputs(1, 1, 4, 7)
    elif family == "ltx":
        inputs = tiny.ltx_inputs(2, 2, 3, 1)
    elif family == "helios":
        model, inputs = tiny.helios(amplify=True), {}
    else:
        inputs = tiny.qwen_inputs(4, 4, 15, hidden=0)
    if change == "controlnet":
        inputs["controlnet_block_samples"] = [torch.zeros(1, 17, 64, dtype=torch.float64)]
    if change == "two tokens with times":
        inputs = tiny.wan_inputs(1, 1, 2, 7) | {"timestep": torch.full((1, 2), 500)}
    if change == "even":
        arguments = {"ring_degree": 2}
    if change == "no gather":
        arguments["cp_plan"] = {"": dict(model._cp_plan[""])}
    if change == "no module":
        arguments["cp_plan"] = dict(model._cp_plan) | {"transformer_block.0": model._cp_plan[""]}
    attention_backends.enable(model, process_group=group, **arguments)
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        attention_backends.disable(model)


@pytest.mark.parametrize(
    ("family", "change", "says"),
    [
        ("flux", "controlnet", "controlnet_block_samples holds 17 tokens, as hidden_states does, which is split"),
        ("wan", "two tokens with times", "2 tokens of timestep for 3 ranks, and this model needs one on each"),
        ("ltx", "one text token", "1 tokens of encoder_hidden_states for 3 ranks, and this model needs one on each"),
        ("qwen", "even", "output 1 of pos_embed has 15 tokens: ring on 2 ranks needs a multiple of 2"),
        ("flux", "no gather", "cp_plan gathers nothing"),
        ("flux", "no module", "has no module 'transformer_block' there; nearest: transformer_blocks"),
        ("helios", "amplified", "HeliosTransformer3DModel with is_amplify_history counts its history"),
    ],
)
def test_what_cannot_be_split_is_told_on_every_rank(ranks, family, change, says):
    for error in ranks.errors(given, 2 if change == "even" else 3, family=family, change=change):
        assert error is not None
        assert says in error


def helios(group: dist.ProcessGroup) -> tuple[float, float]:
    """Errors of the output and, summed over ranks once, of all gradients, in parts of the largest."""
    inputs, found = tiny.helios_inputs(2, 2, 3, 5), []
    for shared in (False, True):
        model = tiny.helios()
        if shared:
            attention_backends.enable(model, process_group=group, **ANY)
        out = model(**inputs)[0]
        out.pow(2).mean().backward()
        grads = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
        if shared:
            for grad in grads.values():
                dist.all_reduce(grad, group=group)
            attention_backends.disable(model)
        found.append((out.detach(), grads))
    (alone, expected), (out, grads) = found
    assert grads.keys() == expected.keys()
    assert {"proj_out.weight", "blocks.0.attn1.to_q.weight", "patch_embedding.weight"} <= grads.keys()
    largest = max(grad.abs().max().item() for grad in expected.values())
    apart = max((grads[name] - expected[name]).abs().max().item() for name in grads)
    return (out - alone).abs().max().item(), apart / largest


def test_gradients_are_summed_once_where_parts_run_on_every_rank(ranks):
    """Helios splits and gathers in each block, and what lies between runs whole on every rank; it has 2 blocks, and
    its class's plan names 40."""
    for out, gradients in ranks.run(helios, 3):
        assert out < 1e-10
        assert gradients < 1e-6  # parts of it are in float32


def outside(group: dist.ProcessGroup) -> str:
    try:
        attention_backends.enable(tiny.flux(), process_group=dist.GroupMember.NON_GROUP_MEMBER, ring_degree=2)
    except ValueError as error:
        return str(error)
    return ""


def test_a_process_outside_the_group_is_told_so(ranks):
    assert ranks.run(outside, 1) == [
        "this process is not in process_group: call enable() on the ranks of the group only."
    ]
