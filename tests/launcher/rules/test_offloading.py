"""Offloading in pieces: what it does not go with is named, beside what the lines of refusals.py show."""

from __future__ import annotations

import dataclasses

import pytest
from refusals import REFUSALS
from shared import GPUS

from launcher.rules import offloading, problems


@pytest.mark.parametrize(("line", "said", "machine"), REFUSALS["offloading"])
def test_it_is_refused_by_name(ask, line, said, machine):
    told = [
        f"{problem.value}: {problem.rule}; {problem.instead}"
        for problem in problems(ask(*line.split(), machine=machine))
    ]
    assert any(said in each for each in told), told


@pytest.mark.parametrize("how", ["group", "sequential"])
def test_a_class_that_it_was_not_tested_with_is_named(ask, how):
    words = ["runtime=gpu", f"runtime.offload={how}", "model.pipeline=HunyuanDiTPipeline"]
    (found,) = offloading.offloaded(ask(*words, machine=GPUS))
    assert found.rule.startswith("does not work with HunyuanDiT2DModel: its attention computes with weights")
    assert found.instead == "type runtime.offload=model"
    request = ask("runtime=gpu", f"runtime.offload={how}", machine=GPUS)
    checkpoint = dataclasses.replace(request.inputs.checkpoint, planless="SanaTransformer2DModel")
    request = dataclasses.replace(request, inputs=dataclasses.replace(request.inputs, checkpoint=checkpoint))
    (found,) = offloading.offloaded(request)
    assert found.rule == "was not tested with a SanaTransformer2DModel"
    assert not list(offloading.offloaded(ask("runtime=gpu", f"runtime.offload={how}", "cache=pab", machine=GPUS)))
