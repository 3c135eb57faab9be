"""enable() and disable(): what they refuse, what they leave behind, and what the first forward asks."""

import pytest
import tiny
import torch.distributed as dist
from diffusers.models import attention_dispatch

import attention_backends


def left_behind(group: dist.ProcessGroup) -> list[str]:
    model = tiny.flux()
    modules = [*model.modules(), *(p for m in model.modules() if (p := getattr(m, "processor", None)) is not None)]
    before = [dict(vars(thing)) for thing in modules]
    entry = attention_dispatch._AttentionBackendRegistry._backends.copy()
    for arguments in ({"ring_degree": 2}, {"ulysses_degree": 2, "ulysses_anything": True}):
        attention_backends.enable(model, process_group=group, **arguments)
        attention_backends.disable(model)
    problems = [
        f"{type(thing).__name__}.{name}"
        for thing, old in zip(modules, before, strict=True)
        for name in {*old, *vars(thing)}
        if old.get(name) is not vars(thing).get(name)
    ]
    return problems + [
        str(k) for k, v in entry.items() if attention_dispatch._AttentionBackendRegistry._backends[k] is not v
    ]


def test_disable_leaves_nothing_behind(ranks):
    assert ranks.run(left_behind, 2) == [[], []]


def refused(group: dist.ProcessGroup, **arguments: object) -> None:
    attention_backends.enable(tiny.flux(), process_group=group, **arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "at least two ranks"),
        ({"ring_degree": 3}, "there are 2 ranks"),
        ({"ring_degree": 0}, "at least 1"),
        ({"ulysses_degree": 2, "ring_anything": True}, "ring_degree=1: ring_anything needs ring_degree at least 2"),
        ({"ring_degree": 2, "ring_anything": True, "unified_anything": True}, "at most one"),
        (
            {"mode": "fast", "ring_degree": 2},
            "mode='fast': unknown mode; choose from ring, ulysses, unified, ulysses_any",
        ),
        ({"mode": "none"}, "mode='none': unknown mode; choose from ring"),
        ({"mode": "ring", "ring_degree": 2, "ulysses_degree": 2}, "these degrees mean unified"),
        ({"mode": "ulysses", "ring_degree": 2}, "these degrees mean ring"),
        ({"ring_degree": 2, "kernel": "fast"}, "choose from auto, native"),
        ({"ring_degree": 2, "kernel": "_flash_3"}, "kernel='_flash_3' needs the package flash-attn-3, which is not"),
        ({"ring_degree": 2, "schedule": "fast"}, "choose from auto, gather, staged"),
    ],
)
def test_bad_arguments_name_what_is_legal(ranks, arguments, says):
    for error in ranks.errors(refused, 2, **arguments):
        assert error is not None
        assert error.startswith("ValueError")
        assert says in error


def different_inputs(group: dist.ProcessGroup) -> None:
    model = tiny.flux()
    attention_backends.enable(model, process_group=group, ring_degree=2, ring_anything=True)
    try:
        model(**tiny.flux_inputs(16, 6 + dist.get_rank(group)))
    finally:
        attention_backends.disable(model)


def test_ranks_with_different_inputs_all_raise(ranks):
    for error in ranks.errors(different_inputs, 2):
        assert error is not None
        assert "give every rank the same" in error


def sizes_asked(group: dist.ProcessGroup) -> int:
    model = tiny.flux(layers=3)
    attention_backends.enable(model, process_group=group, ring_degree=3, ring_anything=True, schedule="staged")
    attention_backends.reset_counters()
    for image in (20, 31):
        model(**tiny.flux_inputs(image, 7))
    attention_backends.disable(model)
    return attention_backends.counters().size_exchanges


def test_lengths_are_exchanged_once_a_forward(ranks):
    assert ranks.run(sizes_asked, 3) == [2, 2, 2]
