"""Models with context parallelism compile as one graph with dynamic shapes, and give what they give uncompiled."""

import os
from functools import partial
from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist

import attention_backends

WHOLE = "FAMILY_SAMPLES" in os.environ
pytestmark = pytest.mark.slow


# Two sizes each. Wan hands its blocks their arguments by position, MiniMaxH3 attends to its text before it splits.
MODELS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "flux": (
        partial(tiny.flux, dtype=torch.float32),
        [tiny.flux_inputs(*size, dtype=torch.float32) for size in ((17, 6), (23, 9))],
    ),
    "wan": (partial(tiny.wan, layers=1), [tiny.wan_inputs(*size) for size in ((1, 2, 3, 7), (2, 3, 3, 5))]),
    "minimax": (tiny.minimax, [tiny.minimax_inputs(*size) for size in ((7, 2, 5), (9, 3, 6))]),
}


def compiled(group: dist.ProcessGroup, name: str, arguments: dict[str, Any]) -> list[float]:
    build, inputs = MODELS[name]
    model = build()
    with torch.no_grad():
        expected = [torch.cat([x.flatten() for x in model(**given)]) for given in inputs]
        attention_backends.enable(model, process_group=group, **arguments)
        fast = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
        found = [torch.cat([x.flatten() for x in fast(**given)]) for given in inputs]
        attention_backends.disable(model)
    torch.compiler.reset()
    return [(one - whole).abs().max().item() for one, whole in zip(found, expected, strict=True)]


CASES = [  # a quarter of a minute each
    ("flux", "unified_anything", (2, 1)),
    ("minimax", "ring", ()),
    ("flux", "ring_anything", ()),
    ("wan", "unified_anything", ()),
]


@pytest.mark.parametrize(("name", "mode", "shares"), CASES if WHOLE else CASES[:1])
def test_full_graph(ranks, name, mode, shares):
    for errors in ranks.run(compiled, 2, name=name, arguments={"ring_degree": 2, "mode": mode, "shares": shares}):
        assert max(errors) < 1e-5


def apart(group: dist.ProcessGroup, change: str) -> str:
    """What a rank of a compiled model says when rank 1 is given something else, and whether all go on after it."""
    build, (given, _) = MODELS["flux" if change == "timestep" else "wan"]
    model, rank = build(), dist.get_rank(group)
    other = dict(given)
    if change == "timestep":
        other["timestep"] = given["timestep"] + 0.25
    else:  # a text that no rank splits, so that no length of an attention over ranks tells
        text = given["encoder_hidden_states"]
        other["encoder_hidden_states"] = torch.cat([text, text], dim=1)
    with torch.no_grad():
        expected = model(**given)[0]
        attention_backends.enable(model, process_group=group, ring_degree=2, ring_anything=True)
        fast = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
        fast(**given)
        told = ""
        try:
            fast(**(other if rank == 1 else given))
        except Exception as error:
            told = str(error)
        again = fast(**given)[0]
        attention_backends.disable(model)
    torch.compiler.reset()
    assert torch.allclose(again, expected, atol=1e-5)
    return told


CHANGES = [("timestep", "timestep"), ("text", "the shapes of what rank 0 was given differ")]


@pytest.mark.parametrize(("change", "says"), CHANGES if WHOLE else CHANGES[:1])
def test_ranks_of_a_compiled_model_that_are_given_something_else_say_so(ranks, change, says):
    for told in ranks.run(apart, 2, change=change):
        assert says in told
