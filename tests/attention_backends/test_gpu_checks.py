"""What the checks on a GPU enable, and what stands in for other ranks there, run on a CPU too: they stay whole."""

from __future__ import annotations

import pytest
import tiny
import torch
from gpu import share
from gpu.test_ranks import FAMILIES, OVERLAPS, model, overlapped
from gpu.test_ranks import WAYS as MODES
from gpu.test_size import WAYS


@pytest.fixture
def on_a_cpu(monkeypatch):
    """A step without a GPU's clock, profile and memory: what the model gives."""

    def step(model, inputs):
        with torch.no_grad():
            return model(**inputs)[0]

    monkeypatch.setattr(share, "step", step)


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("way", WAYS)
def test_a_share_of_a_model_is_computed_in_each_way(on_a_cpu, way, world):
    degree, arguments = WAYS[way]
    text, drawn = 7, 17
    model, inputs = tiny.flux(), tiny.flux_inputs(drawn, text)
    out = share.shared(model, inputs, world, [text, drawn], **{degree: world}, **arguments)
    assert out.shape == (1, drawn, 4)


def test_keys_at_hand_are_those_of_all_ranks(on_a_cpu, monkeypatch):
    seen = []
    attend = share.Limit.__call__

    def noted(self, query, key, value):
        out = attend(self, query, key, value)
        seen.append((query.shape[1], self.ready[0].shape[2]))
        return out

    monkeypatch.setattr(share.Limit, "__call__", noted)
    out = share.limit(tiny.flux(), tiny.flux_inputs(17, 7), 2, [7, 17])
    assert out.shape == (1, 17, 4)
    assert seen == [(4 + 9, 24)] * 2  # this rank's tokens in each of two layers, and everyone's keys


@pytest.mark.slow
@pytest.mark.parametrize("family", ["flux", "flux2", "qwen"])
def test_what_is_put_off_gives_the_same(ranks, family):
    told = {"family": family, "inputs": FAMILIES["qwen" if family == "qwen" else "flux"], "device": "cpu"}
    for world, arguments in OVERLAPS:
        assert max(one["apart"] for one in ranks.run(overlapped, world, arguments=arguments, **told)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_whole_transformers_are_compared_in_each_mode(ranks, family):
    told = {"family": family, "inputs": FAMILIES[family], "dtype": "bfloat16", "device": "cpu"}
    for world, arguments in MODES:
        for found in ranks.run(model, world, arguments=arguments, **told):
            assert 0 < found["shared"] < 3 * found["alone"]
