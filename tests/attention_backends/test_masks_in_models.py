"""Models that mask padded prompts: diffusers 0.42.1 is wrong (ring, ulysses_anything), crashes (unified) or refuses."""

from typing import Any

import pytest
import tiny
import torch
import torch.distributed as dist

import attention_backends


def masked(group: dist.ProcessGroup, arguments: dict[str, Any], size: tuple[int, int, int]) -> float:
    model, inputs = tiny.qwen(), tiny.qwen_inputs(*size)
    with torch.no_grad():
        expected = model(**inputs)[0]
        attention_backends.enable(model, process_group=group, **arguments)
        return (model(**inputs)[0] - expected).abs().max().item()


@pytest.mark.parametrize(
    ("world", "arguments", "size"),
    [
        (2, {"ring_degree": 2}, (4, 4, 6)),
        (4, {"ring_degree": 2, "ulysses_degree": 2}, (4, 4, 8)),
        (3, {"ulysses_degree": 3, "ulysses_anything": True}, (5, 5, 7)),
        (3, {"ring_degree": 3, "unified_anything": True}, (5, 5, 7)),
        (6, {"ring_degree": 3, "ulysses_degree": 2, "unified_anything": True}, (5, 5, 8)),
    ],
)
def test_a_padded_prompt_is_masked_on_every_rank(ranks, world, arguments, size):
    assert max(ranks.run(masked, world, arguments=arguments, size=size)) < 1e-5


def test_ring_anything_names_the_mode_that_takes_masks(ranks):
    for error in ranks.errors(masked, 2, arguments={"ring_degree": 2, "ring_anything": True}, size=(4, 4, 6)):
        assert error is not None
        assert "unified_anything=True" in error


def padding_only(group: dist.ProcessGroup, schedule: str) -> float:
    """LTX hides padding by -10000, and the first prompt here is nothing else: off by what one kernel is, in float32."""
    model, inputs = tiny.ltx(), tiny.ltx_inputs(2, 2, 3, 7)
    inputs["encoder_attention_mask"][0] = False
    with torch.no_grad():
        alone = model(**inputs)[0]
        attention_backends.enable(model, process_group=group, mode="unified_anything", ring_degree=3, schedule=schedule)
        return ((model(**inputs)[0] - alone).abs().max() / alone.abs().max()).item()


@pytest.mark.parametrize("schedule", ["gather", "staged"])
def test_a_prompt_of_padding_alone_is_what_one_process_makes_of_it(ranks, schedule):
    assert max(ranks.run(padding_only, 3, schedule=schedule)) < 2e-6
