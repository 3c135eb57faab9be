"""Several pictures in a call: what is refused, what a plan counts."""

import dataclasses

import pytest
from refusals import REFUSALS
from shared import GPUS, LAPTOP

from launcher.estimates import memory
from launcher.estimates.attentions import attentions
from launcher.estimates.ways import resolved, way
from launcher.rules import problems


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["batches"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)


def prompts(request, *texts, tokens=()):
    """The request with these prompts, of so many tokens."""
    counted = tokens or (None,) * len(texts)
    inputs = dataclasses.replace(request.inputs, prompts=texts, tokens=counted, negative_tokens=3)
    return resolved(request.config, inputs, request.machine)


def test_a_batch_alone_makes_as_many_pictures_of_a_single_prompt(ask):
    assert (ask("batch=3").images, ask("batch=3").calls) == (3, ((0, 0, 0),))
    assert (ask("batch=3", "images=7").calls, ask().calls) == (((0,) * 3, (0,) * 3, (0,)), ((0,),))
    several = prompts(ask("batch=2"), "a", "b", "c")
    assert (several.images, several.calls, several.batch) == (1, ((0, 1), (2,)), 2)


def test_groups_are_dealt_calls(ask):
    request = ask("batch=2", "images=5")
    assert request.share(0, 1) == ((0, 1), (2, 3), (4,))
    assert (request.share(0, 2), request.share(1, 2)) == (((0, 1), (4,)), ((2, 3),))


def test_calls_of_one_prompt_end_with_it(ask):
    request = prompts(ask("model=kandinsky5_t2v_lite", "batch=2", "images=3", machine=GPUS), "a", "b")
    assert request.calls == ((0, 0), (0,), (1, 1), (1,))


def test_unequal_prompts_of_a_call_have_a_mask_where_the_family_needs_one(ask):
    request = ask("model=qwenimage", "batch=2", "cp=ring_anything", "cp.ring_degree=2", machine=GPUS)
    assert not prompts(request, "a", "b", tokens=(9, 9)).masked
    assert not prompts(request, "a", tokens=(9,)).masked
    unequal = prompts(request, "a", "b b b", tokens=(9, 12))
    assert unequal.masked
    assert unequal.texts == (12, 3)
    said = [str(problem) for problem in problems(unequal) if "mask" in str(problem)]
    assert said
    assert "not equally long; type cp=unified_anything" in said[0]
    alone = ask("model=qwenimage", "cp=ring_anything", "cp.ring_degree=2", machine=GPUS)
    apart = prompts(alone, "a", "b", tokens=(9, 12))
    assert not apart.masked
    assert apart.texts == (9, 12, 3)


def test_a_plan_counts_the_batch(ask):
    words = ["cp=ulysses_anything", "cp.ulysses_degree=2", "images=4"]
    one, four = ask(*words, machine=LAPTOP), ask(*words, "batch=4", machine=LAPTOP)
    assert attentions(four)[0].shape.batch == 4
    alone, together = memory.of_ranks(one)[0], memory.of_ranks(four)[0]
    assert (together.activations, together.decoding) == (4 * alone.activations, 4 * alone.decoding)
    assert together.buffers > alone.buffers
    assert way(four).layer_bytes == 4 * way(one).layer_bytes
