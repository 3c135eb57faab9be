"""Messages of their own for each tensor: the same bits as in one for all, in which order, and where they are not."""

import dataclasses
from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist
from cases import make_mask
from order import INPUTS, order

import attention_backends
from attention_backends import cost, exchange, workload
from attention_backends.deferred import Deferred
from attention_backends.layout import Layout
from attention_backends.topology import Topology
from attention_backends.unified import begin

UNEVEN = (9, 4, 31, 2)
# By which a wire takes about a quarter of the tiny layers, so that hiding it pays; and by which it does not.
SLOW, FAST = workload.Speeds(0.0, 50e6, 1e9, 5e9), workload.Speeds(0.0, 50e9, 1e9, 5e9)
SLOWER = workload.Speeds(0.0, 5e6, 1e9, 5e9)  # too slow for an MLP to hide a ring's wire


def alike(
    group: dist.ProcessGroup,
    ring: int,
    ulysses: int,
    heads: int = 6,
    key_heads: int = 6,
    mask: str | None = None,
    is_causal: bool = False,
    schedule: str = "auto",
    lengths: tuple[int, ...] = UNEVEN,
) -> dict[str, Any]:
    """Whether results and gradients are the same to the bit in one message and in several, and what was sent."""
    topology, world = Topology(group, dist.get_rank(group), ring, ulysses), ring * ulysses
    layout, generator = Layout(lengths[:world]), torch.Generator().manual_seed(3)
    here = slice(layout.offsets[topology.rank], layout.offsets[topology.rank + 1])
    q, k, v = (torch.randn(2, layout.total, n, 8, generator=generator)[:, here] for n in (heads, key_heads, key_heads))
    given = make_mask(mask, 2, heads, layout.total, layout.total, generator, q.dtype)
    given = given[:, :, here if given.shape[2] > 1 else slice(None)] if given is not None else None
    told: dict[str, Any] = {"queries": layout, "keys": layout, "topology": topology, "is_causal": is_causal}
    told["schedule"] = schedule
    found, order = {}, []

    def put_off(name: str, x: torch.Tensor) -> Deferred:
        return Deferred(lambda: order.append(name) or x, x.shape, x)

    for apart in (False, True):
        exchange.reset_counters()
        with torch.no_grad():
            late = (put_off(name, x) for name, x in zip("qkv", (q, k, v), strict=True))
            out = begin(*(late if apart else (q, k, v)), given, apart=apart, **told)()
        counted = exchange.counters()
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        graded = begin(*leaves, given, apart=apart, **told)()
        sent = exchange.counters().messages - counted.messages
        graded.square().sum().backward()
        found[apart] = out, graded.detach(), *(x.grad for x in leaves)
        assert sent == counted.messages  # with a gradient the same is sent
        found[apart, "sent"] = counted
    one = workload.Attention(layout, layout, workload.Shape(heads, 8, 2, key_heads, element_size=4), ring, ulysses)
    told = {"key_mask": int(mask is not None), "mask_per_head": mask == "heads", "meanwhile": workload.Meanwhile(1.0)}
    marked = dataclasses.replace(one, **told)
    return {
        "same": [torch.equal(a, b) for a, b in zip(found[False], found[True], strict=True)],
        "bytes": found[False, "sent"].bytes == found[True, "sent"].bytes,
        "messages": (found[False, "sent"].messages, found[True, "sent"].messages),
        "counted": tuple(len(cost._traded(marked, topology.rank, apart=apart)) for apart in (False, True)),
        "order": "".join(order),
    }


CASES = [
    ({"ring": 1, "ulysses": 2}, 6),
    ({"ring": 1, "ulysses": 3, "mask": "additive"}, 12),
    ({"ring": 1, "ulysses": 3, "mask": "heads"}, 8),  # a mask of each head: in one group
    ({"ring": 1, "ulysses": 4, "is_causal": True}, 12),  # members of one head
    ({"ring": 1, "ulysses": 2, "key_heads": 2}, 4),
    ({"ring": 1, "ulysses": 4, "heads": 3, "key_heads": 3}, None),  # a member without heads
    ({"ring": 2, "ulysses": 2, "mask": "keys"}, None),
    ({"ring": 2, "ulysses": 1, "schedule": "staged"}, None),
    ({"ring": 3, "ulysses": 1, "schedule": "gather", "mask": "heads", "key_heads": 2}, None),
    ({"ring": 3, "ulysses": 1, "schedule": "staged", "is_causal": True}, None),
    ({"ring": 4, "ulysses": 1, "schedule": "staged", "mask": "keys", "lengths": (9, 0, 31, 0)}, None),
]


@pytest.mark.parametrize(("case", "messages"), CASES, ids=lambda case: str(case))
def test_bits_are_those_of_one_message(ranks, case, messages):
    world = case["ring"] * case["ulysses"]
    for told in ranks.run(alike, world, **case):
        assert all(told["same"]), told
        assert told["bytes"]
        assert told["order"] == ("vqk" if case["ulysses"] > 1 else "vkq")
        if messages is not None:
            assert told["messages"] == told["counted"] == (2 * (world - 1), messages)


def on_and_off(group: dist.ProcessGroup, family: str, lora: bool) -> dict[str, Any]:
    model, inputs, found = getattr(tiny, family)(), INPUTS[family](), {}
    if lora:
        from peft import LoraConfig

        targets = ["to_q", "to_v", "add_k_proj", "proj_mlp", "proj_out"]
        model.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=targets))
    with torch.no_grad():
        alone = model(**inputs)[0]
        for overlap in (False, True):
            degree = group.size()
            attention_backends.enable(
                model, process_group=group, ulysses_degree=degree, ulysses_anything=True, speeds=SLOW, overlap=overlap
            )
            attention_backends.reset_counters()
            found[overlap] = model(**inputs)[0], attention_backends.counters().bytes
            attention_backends.disable(model)
    (before, moved), (after, moved_then) = found[False], found[True]
    return {
        "same": torch.equal(before, after),
        "error": (after - alone).abs().max().item(),
        "moved alike": moved == moved_then,
    }


@pytest.mark.parametrize(
    ("family", "world", "lora"),
    [("flux", 2, False), ("flux", 3, True), ("flux2", 4, False), ("qwen", 2, False), ("qwen", 3, False)],
)
def test_a_model_gives_the_same(ranks, family, world, lora):
    for told in ranks.run(on_and_off, world, family=family, lora=lora):
        assert told["moved alike"]
        assert told["error"] < (1e-12 if family != "qwen" else 1e-5)
        assert told["same"] or family != "qwen"  # the others' last projection is summed in two parts


TRADED = ["send", "attend", "send", "attend", "send"]
ORDERS = [
    (
        "flux",
        "single_transformer_blocks.0",
        False,
        ["proj_mlp", "to_q", "to_k", "to_v", "send", "attend", "send", "proj_out"],
    ),
    (
        "flux",
        "single_transformer_blocks.0",
        True,
        [
            "to_v",
            "send",
            "to_q",
            "send",
            "to_k",
            "send",
            "send",
            "proj_mlp",
            "proj_out 64",
            *TRADED[1:],
            "proj_out 64",
            "proj_out",
        ],
    ),
    (
        "flux2",
        "single_transformer_blocks.0",
        True,
        [
            *("to_qkv_mlp_proj 128", "send", "to_qkv_mlp_proj", "send", "to_qkv_mlp_proj 64", "send", "send"),
            *("to_qkv_mlp_proj 192", "to_out 64", *TRADED[1:], "to_out 64", "to_out"),
        ],
    ),
    (
        "flux",
        "transformer_blocks.0",
        True,
        [
            *("add_v_proj", "to_v", "send", "add_q_proj", "to_q", "send", "add_k_proj", "to_k"),
            *("send", *TRADED, "to_add_out"),
        ],
    ),
]


AROUND = [
    (
        "flux",
        "single_transformer_blocks.0",
        ["to_v", "send", "to_k", "send", "proj_mlp", "proj_out 64", "to_q", "attend", "proj_out"],
    ),
    (
        "flux",
        "transformer_blocks.0",
        [*("add_v_proj", "to_v", "send", "add_k_proj", "to_k", "send"), *("add_q_proj", "to_q", "attend")],
    ),
]


@pytest.mark.parametrize(("family", "path", "expected"), AROUND)
def test_a_rings_values_leave_before_its_keys_are_computed(ranks, family, path, expected):
    told = {"family": family, "path": path, "ring_degree": 2, "schedule": "gather", "speeds": SLOWER}
    for events in ranks.run(order, 2, **told):
        known = [event for event in events if event.split(" ")[0] in {word.split(" ")[0] for word in expected}]
        assert known == expected


@pytest.mark.parametrize(("family", "path", "overlap", "expected"), ORDERS)
def test_each_tensor_leaves_before_the_next_is_computed(ranks, family, path, overlap, expected):
    told = {"family": family, "path": path, "sends": "post", "ulysses_degree": 2, "overlap": overlap, "speeds": SLOW}
    for events in ranks.run(order, 2, **told):
        known = [event for event in events if event.split(" ")[0] in {word.split(" ")[0] for word in expected}]
        assert known == expected


def gradients(group: dist.ProcessGroup) -> float:
    """How far any parameter's gradient is from one process's."""

    def each(model: Any) -> list[torch.Tensor]:
        model(**INPUTS["flux"]())[0].square().mean().backward()
        return [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]

    expected, model = each(tiny.flux()), tiny.flux()
    attention_backends.enable(model, process_group=group, ulysses_degree=2, ulysses_anything=True, speeds=SLOW)
    found = each(model)
    for gradient in found:
        dist.all_reduce(gradient, group=group)
    attention_backends.disable(model)
    return max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))


def test_gradients_are_those_of_one_process(ranks):
    assert max(ranks.run(gradients, 2)) < 1e-12


def plainly(group: dist.ProcessGroup, way: str) -> tuple[int, int]:
    """Messages of a forward in one message each way, and of one in which nothing may be put off."""
    model, inputs, counted = tiny.flux(dtype=torch.float32), tiny.flux_inputs(17, 7, dtype=torch.float32), []
    with torch.no_grad():
        for overlap in (False, True):
            attention_backends.enable(
                model, process_group=group, ulysses_degree=2, ulysses_anything=True, speeds=SLOW, overlap=overlap
            )
            attention_backends.reset_counters()
            if way == "compiled":
                torch.compile(model, fullgraph=True, dynamic=True, backend="eager")(**inputs)
            else:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    model(**inputs)
            counted.append(attention_backends.counters().messages)
            attention_backends.disable(model)
            torch.compiler.reset()
    return counted[0], counted[1]


@pytest.mark.parametrize("way", ["autocast", pytest.param("compiled", marks=pytest.mark.slow)])
def test_where_nothing_may_be_put_off_one_message_is_sent(ranks, way):
    for before, now in ranks.run(plainly, 2, way=way):
        assert before == now


def counted(group: dist.ProcessGroup, speeds: workload.Speeds, degree: str) -> int:
    model, inputs = tiny.flux(), INPUTS["flux"]()
    with torch.no_grad():
        attention_backends.enable(model, process_group=group, unified_anything=True, speeds=speeds, **{degree: 2})
        attention_backends.reset_counters()
        model(**inputs)
        attention_backends.disable(model)
    return attention_backends.counters().messages


def test_a_fast_wire_is_not_cut_into_messages(ranks):
    """Two layers, and one message that gathers the output."""
    for degree, fast, slow, speeds in (("ulysses_degree", 2, 6, SLOW), ("ring_degree", 1, 2, SLOWER)):
        assert ranks.run(counted, 2, speeds=FAST, degree=degree) == [2 * fast + 1] * 2
        assert ranks.run(counted, 2, speeds=speeds, degree=degree) == [2 * slow + 1] * 2


def test_a_device_that_waits_for_its_host_puts_nothing_off(ranks):
    """Its host's time for a layer is above what any of these takes: blocks run in the model's own order."""
    path = "single_transformer_blocks.0"
    for slow, degree, sends in ((SLOW, "ulysses_degree", "post"), (SLOWER, "ring_degree", "start")):
        busy = dataclasses.replace(slow, launch=1.0)
        assert ranks.run(counted, 2, speeds=busy, degree=degree) == ranks.run(counted, 2, speeds=FAST, degree=degree)
        told = {"family": "flux", "path": path, "sends": sends, degree: 2}
        assert ranks.run(order, 2, speeds=busy, **told) == ranks.run(order, 2, overlap=False, **told)
        assert ranks.run(order, 2, speeds=slow, **told) != ranks.run(order, 2, overlap=False, **told)
