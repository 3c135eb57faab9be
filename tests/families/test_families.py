"""Every family's plan on tiny transformers: a sample of the proof, what it rests on, and what a wrong plan is told."""

from __future__ import annotations

import copy
import os
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

# ruff: noqa: E402  (the helpers are found by path)
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "attention_backends" / "helpers")]

import proof
import proof_cases
from exact import alone, difference, error, model_of
from inputs import Size
from kept_keys import apart, two_steps
from miniatures import OTHERS, TINY, output
from ranks import Ranks

import attention_backends
from attention_backends.plan import PlanError, parse
from attention_backends.state import ContextParallel

pytestmark = pytest.mark.slow

SAMPLES = int(os.environ.get("FAMILY_SAMPLES", "2"))  # cases of each tiny transformer and world


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    pool = Ranks(max(proof_cases.WORLDS))
    yield pool
    pool.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(proof_cases.MODEL))
def test_a_sample_of_the_proof(ranks, name):
    chance, drawn = random.Random(name), []
    few = name in OTHERS and "FAMILY_SAMPLES" not in os.environ  # one case each of those that are no family
    for world in proof_cases.WORLDS[:1] if few else proof_cases.WORLDS:
        own = [case for case in proof_cases.cases(name) if case.world == world]
        drawn += chance.sample(own, 1 if few else min(SAMPLES, len(own)))
    for case, result in proof.run(ranks, name, proof_cases.plans()[name], drawn).items():
        if isinstance(result, str):
            assert "CRASH" not in proof.refusal(result), (case, result)
        else:
            assert result <= proof_cases.LIMIT, case


def test_the_table_is_current():
    rows, text = proof.known(), proof.TABLE.read_text(encoding="utf-8")
    assert proof.stale(rows) == [], "run python tests/families/proof.py"
    assert f"{proof.BEGIN}\n{proof.written(rows)}\n{proof.END}" in text
    assert not re.search("WRONG|CRASH", str([row["ours"] for row in rows.values()]))


def test_guidance_is_shown_embedded_and_not():
    """Of each class that can be told its guidance scale there is a tiny one that is, and one that is not."""
    shown: dict[str, set[str]] = {}
    for name in proof_cases.MODEL:
        shown.setdefault(TINY[name].kind, set()).add(proof._guided(name))
    never = {"QwenImageTransformer2DModel", "BriaTransformer2DModel"}  # they fail when they are told one
    assert [kind for kind, told in shown.items() if len(told) == 1 and told != {""} and kind not in never] == []


@pytest.mark.slow
def test_every_plan_in_conf_is_proved():
    from launcher.config.compose import Composer, to_config

    composer = Composer()
    plans = [to_config(composer.compose([f"model={name}"])).model.cp_plan for name in composer.groups["model"]]
    assert [plan for plan in plans if plan not in proof_cases.plans().values()] == []


def local(group: dist.ProcessGroup, name: str, plan: dict[str, Any]) -> float:
    """The error if every rank attends to its own keys alone."""
    original = ContextParallel.attend

    def attend(self: ContextParallel, query: Any, key: Any, value: Any, mask: Any, is_causal: Any, scale: Any) -> Any:
        self.calls += 1
        if mask is not None and mask.shape[-1] != key.shape[1]:
            mask = None
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=scale).transpose(1, 2)

    ContextParallel.attend = attend  # type: ignore[method-assign]
    try:
        return error(group, name, plan, {"ring_degree": 2, "ring_anything": True}, Size(2, 3, 5, 7))
    finally:
        ContextParallel.attend = original  # type: ignore[method-assign]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(proof_cases.MODEL))
def test_attention_that_stays_local_is_seen(ranks, name):
    """The proof could not pass by accident: weights and inputs are such that attention counts."""
    assert min(ranks.run(local, 2, name=name, plan=proof_cases.plans()[name])) > 20 * proof_cases.LIMIT


def key_value_path(group: dist.ProcessGroup, plan: dict[str, Any]) -> list[float]:
    model, steps = two_steps(Size(1, 3, 5, 7), reference=5)
    expected, world = steps(), dist.get_world_size(group)
    attention_backends.enable(model, process_group=group, cp_plan=plan, ring_degree=world, ring_anything=True)
    return apart(steps(), expected)


@pytest.mark.parametrize("world", [2, 3])
def test_kleins_kept_keys_and_values_are_each_ranks_own(ranks, world):
    for errors in ranks.run(key_value_path, world, plan=proof_cases.plans()["flux2"]):
        assert max(errors) <= proof_cases.LIMIT


def planned(group: dist.ProcessGroup, name: str, plan: dict[str, Any], size: Size) -> float:
    return error(group, name, plan, {"ring_degree": 2, "ring_anything": True}, size)


def changed(name: str, **parts: Any) -> dict[str, Any]:
    """A family's plan with some of its keys replaced."""
    return copy.deepcopy(proof_cases.plans()[name]) | parts


WRONG = [
    # family, what makes the plan, part of what every rank says
    (
        "wan",
        lambda: changed("wan", split={"block.0": {"hidden_states": {"dim": 1}}}),
        "has no module 'block' there; nearest: blocks",
    ),
    (
        "wan",
        lambda: changed(
            "wan", split={"blocks.0": {"hidden_state": {"dim": 1}}}, gather={"proj_out": {"dim": 1}}, empty=[]
        ),
        "has no parameter 'hidden_state'; nearest: hidden_states",
    ),
    ("wan", lambda: changed("wan", local=["blocks.*.attn3"]), "has no module 'attn3' there; nearest: attn2, attn1"),
    ("wan", lambda: changed("wan", local=["blocks.*.ffn"]), "has no attention there"),
    ("wan", lambda: changed("wan", local=["blocks"]), "has no attention that goes over all ranks"),
    # Attention to a rank's own part alone.
    (
        "wan",
        lambda: changed("wan", local=["blocks.*.attn1"]),
        "blocks.0.attn1 stays local by the plan, and attends to this",
    ),
    (
        "flux",
        lambda: changed("flux", local=["single_transformer_blocks.*.attn"]),
        "single_transformer_blocks.0.attn stays",
    ),
    # Positions that are not split: one token's are put on another's.
    (
        "wan",
        lambda: changed("wan", split={"blocks.0": {"hidden_states": {"dim": 1}}}),
        "is split where no tokens are: blocks.0, hidden_states along dimension 1 of (1, 30, 48)",
    ),
    # Dimensions that count no tokens, or that a tensor does not have.
    (
        "wan",
        lambda: changed("wan", split={"blocks.0": {"hidden_states": {"dim": 2}}}),
        "blocks.0, hidden_states along dimension 2 of (1, 30, 48)",
    ),
    (
        "wan",
        lambda: changed("wan", split={"blocks.0": {"hidden_states": {"dim": 3}}}),
        "blocks.0, hidden_states: dim=3, of a tensor of 3 dimensions, (1, 30, 48); write 0 to 2",
    ),
    (
        "hunyuan_video",
        lambda: changed(
            "hunyuan_video",
            split=changed("hunyuan_video")["split"] | {"rope": {0: {"dim": 1, "like": "hidden_states"}}},
        ),
        "30 tokens of hidden_states, and there were 12 before: rope, output 0 along dimension 1 of (30, 12)",
    ),
    ("wan", lambda: changed("wan", gather={"proj_out": {"dim": 3}}), "proj_out: dim=3, of a tensor of 3 dimensions"),
    (
        "wan",
        lambda: changed("wan", gather={"proj_out": {"dim": 0}}),
        "but it holds 15 of hidden_states; write dim: 1, which has 15",
    ),
    # The text counted as part of the picture.
    (
        "hunyuan_video",
        lambda: changed(
            "hunyuan_video",
            split={
                "transformer_blocks.0": {"hidden_states": {"dim": 1}, "encoder_hidden_states": {"dim": 1}},
                "transformer_blocks.*": {"attention_mask": {"dim": -1, "like": "hidden_states"}},
            },
        ),
        "37 tokens along dimension 3, but the plan joins 30 of hidden_states",
    ),
    ("wan", lambda: changed("wan", gather={"proj_out": {"dim": 2}}), "tokens on rank"),
]


@pytest.mark.parametrize(("name", "plan", "says"), WRONG)
def test_a_wrong_plan_is_an_error_on_every_rank_and_not_a_picture(ranks, name, plan, says):
    ranks.run(built, 2, name=name)
    for told in ranks.errors(planned, 2, name=name, plan=plan(), size=Size(2, 3, 5, 7)):
        assert told is not None
        assert says in told


BROKEN = [
    ([], "cp_plan: expected key: value"),
    ({"splits": {}}, "cp_plan: unknown key 'splits'; nearest: split"),
    ({"split": {"a": {"x": {"dims": 1}}}}, "cp_plan.split.a.x: unknown key 'dims'; nearest: dim"),
    ({"split": {"a": {"x": {"dim": "one"}}}}, "dim='one': give the number of the dimension"),
    ({"split": {"a": {"x": {"dim": 3, "ndim": 3}}}}, "ndim=3 has no dimension 3"),
    ({"split": {"a": {"x": {"dim": 1}, "y": {"dim": 1, "like": "z"}}}}, "no stream 'z'; there are x"),
    ({"split": {"a": {"x": {"dim": 1}, "0": {"dim": 1}}}}, "an output follows streams: say which, with like"),
    ({"split": {"a": {"x": {"dim": 1}, "y": {"count": "x", "dim": 1}}}}, "count goes with a parameter"),
    ({"split": {"a": {"x": {"dim": 1}, "y": {"dim": 1, "like": [None]}}}}, "null is what is left beside named streams"),
    ({"split": {"a": {"x": {"dim": 1, "parts": {"p": "n"}}}}}, "exactly one stream has null"),
    ({"split": {"a": {0: {"dim": 1, "parts": {"p": "n", "q": None}}}}}, "an output defines one stream"),
    ({"split": {"a": {"x": {"dim": 1}}}, "gather": {}}, "cp_plan.gather is empty"),
    ({"split": {"a": {"x": {"dim": 1}}}, "gather": {"b": {"dim": 1, "like": "y"}}}, "no stream 'y'"),
    ({"split": {"a": {"x": {"dim": 1}}}, "gather": {"b": {"dim": 1}}, "empty": ["y"]}, "cp_plan.empty: no stream 'y'"),
    ({"split": {"a": {"x": {"dim": 1}}}, "gather": {"b": {"dim": 1}}, "local": 3}, "expected a name or a list"),
]


@pytest.mark.parametrize(("plan", "says"), BROKEN)
def test_a_broken_plan_is_told_without_its_model(plan, says):
    with pytest.raises(PlanError, match=re.escape(says)):
        parse(plan)


def few(group: dist.ProcessGroup, plan: dict[str, Any]) -> float:
    return error(group, "cosmos", plan, {"ulysses_degree": 4, "ulysses_anything": True}, Size(1, 1, 3, 7))


def built(group: dist.ProcessGroup, name: str) -> None:
    """Have the model ready on every rank, so that none is late when another one fails."""
    alone(name, Size(1, 1, 3, 7))


def test_too_few_tokens_are_refused_on_every_rank(ranks):
    ranks.run(built, 4, name="cosmos")
    for told in ranks.errors(few, 4, plan=proof_cases.plans()["cosmos"]):
        assert told is not None
        assert "3 tokens of hidden_states for 4 ranks, and this model needs one on each" in told


def test_what_a_case_is_compared_with_is_one_process():
    """`difference` without ranks is zero: the comparison itself is exact."""
    alone("flux", Size(1, 2, 2, 4))
    assert difference("flux", Size(1, 2, 2, 4)) == 0
    assert model_of("flux") is model_of("flux")


@pytest.mark.parametrize("name", ["flux", "wan_vace", "hidream", "bria_fibo", "hunyuan_dit"])
def test_one_block_of_each_kind_is_a_model_too(name):
    """Which `check=true` looks at where one rank's memory does not hold all of them."""
    from launcher.worker.check import one_block

    model, given = TINY[name].build(), TINY[name].given(Size())
    with torch.no_grad():
        whole = output(model(**given))
        with one_block(model):
            part = output(model(**given))
        assert part.shape == whole.shape
        assert not torch.equal(part, whole)
        assert torch.equal(output(model(**given)), whole)


def test_the_table_of_classes_is_current():
    import classes

    text = classes.TABLE.read_text(encoding="utf-8")
    assert classes.table() in text, "run python tests/families/classes.py"
    assert set(classes.WHY) <= set(classes.transformers())
    assert "needs a plan" not in classes.table(), "write a plan, or the reason why none can be"
