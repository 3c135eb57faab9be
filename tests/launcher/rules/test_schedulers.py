"""The scheduler: one that can follow what the model predicts, and settings that act on it."""

from dataclasses import replace

import pytest
from refusals import REFUSALS
from shared import GPUS

from launcher.rules.schedulers import scheduler
from launcher.schedulers import EULER, Wish


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


def test_a_pipeline_with_times_of_its_own_leaves_nothing_to_choose(ask):
    def said(dynamic: bool, *words: str) -> list[str]:
        request = ask("model=ltx_video_095", *words, machine=GPUS)
        own = {"_class_name": EULER, "use_dynamic_shifting": dynamic}
        checkpoint = replace(request.inputs.checkpoint, scheduler=own)
        return [str(one) for one in scheduler(replace(request, inputs=replace(request.inputs, checkpoint=checkpoint)))]

    assert said(False) == said(False, "scheduler=euler") == []
    for words in ("scheduler=unipc", "scheduler.shift=3", "scheduler.sigmas=karras"):
        (problem,) = said(False, words)
        assert "LTXConditionPipeline has times of its own, for each token; leave it out" in problem
    (problem,) = said(True)
    assert "its scheduler shifts by the size" in problem
