"""The scheduler: one that can follow what the model predicts, and settings that act on it."""

import re
from dataclasses import replace

import pytest
from refusals import REFUSALS
from shared import GPUS

from launcher.rules.schedulers import scheduler
from launcher.schedulers import EULER, UNIPC, Wish


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["schedulers"])
def test_it_is_refused(refuse, line, said, machine):
    refuse(line, said, machine)


@pytest.mark.parametrize(
    ("words", "wish"),
    [
        ([], Wish()),
        (["scheduler=euler", "scheduler.sigmas=karras"], Wish("euler", sigmas="karras")),
        (["scheduler.shift=3"], Wish(shift=3.0)),
        (["scheduler=dpmpp_2m", "scheduler.options={solver_order:3}"], Wish("dpmpp_2m", options={"solver_order": 3})),
        (["model=wan_t2v_1_3b", "scheduler=euler"], Wish("euler")),
        (["model=cogvideox_5b", "scheduler=dpm"], Wish("dpm")),
        (["model=qwenimage", "scheduler=unipc"], Wish("unipc")),
    ],
)
def test_what_is_legal(ask, words, wish):
    request = ask(*words, machine=GPUS)
    assert request.scheduler == wish
    assert list(scheduler(request)) == []


def of(ask, own: dict[str, object], *words: str) -> list[str]:
    """What is said of a model whose checkpoint has this scheduler."""
    request = ask(*words, machine=GPUS)
    checkpoint = replace(request.inputs.checkpoint, scheduler=own)
    return [str(one) for one in scheduler(replace(request, inputs=replace(request.inputs, checkpoint=checkpoint)))]


def test_a_pipeline_with_times_of_its_own_leaves_nothing_to_choose(ask):
    def said(dynamic: bool, *words: str) -> list[str]:
        return of(ask, {"_class_name": EULER, "use_dynamic_shifting": dynamic}, "model=ltx_video_095", *words)

    assert said(False) == said(False, "scheduler=euler") == []
    for words in ("scheduler=unipc", "scheduler.shift=3", "scheduler.sigmas=karras"):
        (problem,) = said(False, words)
        assert "LTXConditionPipeline has times of its own, for each token; leave it out" in problem
    (problem,) = said(True)
    assert "its scheduler shifts by the size" in problem


def test_what_is_to_be_typed_is_legal_for_the_pipeline(ask):
    flow = {"_class_name": UNIPC, "use_flow_sigmas": True}
    for words in (["scheduler=ddim"], ["scheduler.sigmas=karras"], ["scheduler=unipc", "scheduler.sigmas=beta"]):
        (problem,) = of(ask, flow, "model=skyreels_v2_df_1_3b", *words)
        assert "scheduler=euler" not in problem
        typed = re.findall("scheduler=[a-z0-9_]+(?=,| or |$)", problem.partition("; ")[2])
        assert typed or problem.endswith("; leave it out")
        assert [of(ask, flow, "model=skyreels_v2_df_1_3b", name) for name in typed] == [[]] * len(typed)
    (problem,) = of(ask, {"_class_name": "CogVideoXDDIMScheduler"}, "model=cogvideox_5b", "scheduler.sigmas=karras")
    assert problem.endswith("a CogVideoXDDIMScheduler has no such spacing; leave it out")
