"""Modes priced: figures against definitions and public timings, cp=auto and the schedule."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import LAPTOP

from attention_backends.catalog import MODES
from launcher.config.compose import Composer, to_config
from launcher.estimates.ways import linear_flops, priced, resolve
from launcher.rules import problems
from launcher.rules.sharing import sharing_problems


def test_a_step_of_flux_has_as_many_flops_as_was_counted(ask):
    """74 TFLOP at 1024 x 1024: shared/facts, from the model's own shapes."""
    request = ask("model=flux", "machine=h100x8", "cp=none")
    tokens = sum(request.streams.values())
    assert 57 * (tokens * linear_flops(request) + 4 * tokens**2 * 24 * 128) == pytest.approx(74e12, rel=0.02)


DEFAULTS = to_config(Composer().compose(["model=flux", "machine=h100x8", "model.path=bundled"]))


@pytest.mark.slow
@given(
    processes=st.none() | st.integers(1, 9),
    ring=st.none() | st.integers(1, 5),
    ulysses=st.none() | st.integers(1, 5),
    height=st.integers(1, 4000),
    text=st.integers(1, 512),
    gpus=st.integers(1, 8),
    link=st.sampled_from([0.1, 20, 450]),
    schedule=st.sampled_from(["auto", "gather", "staged"]),
    cfg=st.none() | st.integers(1, 2),
    guidance=st.sampled_from([1.0, 3.5]),
)
def test_auto_takes_the_fastest_legal_mode_of_the_table(
    processes, ring, ulysses, height, text, gpus, link, schedule, cfg, guidance
):
    config = copy.deepcopy(DEFAULTS)
    config.cp.mode, config.cp.ring_degree, config.cp.ulysses_degree = "auto", ring, ulysses
    config.cp.cfg_degree, config.model.true_cfg = cfg, guidance
    config.cp.schedule, config.runtime.processes, config.height = schedule, processes, height
    config.model.text_tokens, config.machine.gpus, config.machine.link_gbps = text, gpus, link
    request = resolve(config, LAPTOP)
    table = priced(request)
    assert table is request.ways  # priced once, for cp=auto and for the plan
    legal = [one for one in table if not one.problems]
    if legal:
        (mine,) = [one for one in table if (one.mode, one.mesh.cfg) == (request.mode, request.mesh.cfg)]
        assert not sharing_problems(request)
        assert mine.seconds == min(one.seconds for one in legal)
        assert mine.name in request.why
    assert resolve(config, LAPTOP).schedule == request.schedule
    assert bool(request.schedule) == MODES[request.mode].scheduled


def test_a_slow_link_is_worth_a_staged_ring(ask):
    line = ["model=flux", "machine=rtx4090x4", "cp=ring_anything", "height=1000"]
    assert ask(*line, "model.single_layers=null").schedule == "staged"
    assert ask(*line).schedule == "gather"  # where an MLP hides most of the wire
    assert ask(*line, "machine.link_gbps=14").schedule == "staged"
    assert ask(*line, "machine.link_gbps=400").schedule == "gather"
    assert ask(*line, "cp.schedule=gather").schedule == "gather"


def test_auto_takes_the_grid_where_ranks_outnumber_heads(ask):
    words = ["model=flux", "machine=h100x8", "model.heads=1", "model.head_dim=3072", "height=2048", "width=2048"]
    request = ask(*words, "machine.link_gbps=20", "cp=auto")
    assert (request.mode, request.mesh.ring, request.mesh.ulysses) == ("attention2d", 4, 2)
    assert "attention2d 4 x 2 is the fastest legal mode" in request.why


def test_auto_takes_what_carries_a_mask(ask):
    """What a refusal of ring_anything names, by itself; where there is no mask, ring_anything is legal as well."""
    line = ["model=hunyuan_video", "machine=h100x8", "cp.ring_degree=5", "cp.ulysses_degree=1"]
    request = ask(*line, "cp=auto")
    assert (request.mode, request.mesh.ring, request.mesh.ulysses) == ("unified_anything", 5, 1)
    (refused,) = (each for each in request.ways if each.mode == "ring_anything")
    assert "doesn't support attention masks" in refused.problems[0].rule
    (typed,) = problems(ask(*line, "cp=ring_anything"), plan=True)
    assert typed.instead == "type cp=unified_anything cp.ring_degree=5 cp.ulysses_degree=1"
    assert problems(ask(*line[:2], *typed.instead.split()[1:]), plan=True) == []
    assert ask(*line[:2], "machine.gpus=7").mode == "unified_anything"
    (legal,) = (each for each in ask("model=flux", *line[1:], "cp=auto").ways if each.mode == "ring_anything")
    assert not legal.problems


def test_halves_of_guidance_take_half_the_time_and_exchange_a_latent(ask):
    line = ["model=qwenimage", "machine=h100x8", "machine.gpus=2", "height=1024", "width=1024", "cp=none"]
    one, two = (
        next(each for each in priced(ask(*line, f"cp.cfg_degree={degree}")) if each.mode == "none") for degree in (1, 2)
    )
    assert (one.step_bytes, one.layer_bytes, two.layer_bytes) == (0, 0, 0)
    assert two.step_bytes == 128 * 128 * 16 * 2  # latents each way, channels, bfloat16
    assert 0.5 < two.seconds / one.seconds < 0.51


def test_auto_divides_guidance_where_that_is_faster(ask):
    """Two branches exchange a latent a step; two parts of a sequence exchange keys and values in each layer."""
    request = ask("model=qwenimage", "machine=rtx4090x4", "machine.gpus=2", "height=1000")
    assert (request.mode, request.mesh.shape) == ("none", (1, 2, 1, 1))
    assert "none cfg 2 is the fastest legal mode" in request.why
    assert {one.mesh.cfg for one in request.ways} == {1, 2}
    assert ask("model=qwenimage", "machine=rtx4090x4", "model.true_cfg=1").mesh.cfg == 1
    assert ask("model=qwenimage", "machine=rtx4090x4", "cp.cfg_degree=1").mesh.cfg == 1
