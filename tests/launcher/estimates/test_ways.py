"""Modes priced: figures against definitions and public timings, cp=auto and the schedule."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared import LAPTOP

from attention_backends.catalog import MODES
from launcher.config.compose import Composer, to_config
from launcher.estimates.ways import linear_flops, priced, resolve
from launcher.rules.sharing import sharing_problems


def test_a_step_of_flux_has_as_many_flops_as_was_counted(ask):
    """74 TFLOP at 1024 x 1024: shared/facts, from the model's own shapes."""
    request = ask("model=flux", "machine=h100x8", "cp=none")
    tokens = sum(request.streams.values())
    assert 57 * (tokens * linear_flops(request) + 4 * tokens**2 * 24 * 128) == pytest.approx(74e12, rel=0.02)


DEFAULTS = to_config(Composer().compose(["model=flux", "machine=h100x8", "model.path=bundled"]))


@given(
    processes=st.none() | st.integers(1, 9),
    ring=st.none() | st.integers(1, 5),
    ulysses=st.none() | st.integers(1, 5),
    height=st.integers(1, 4000),
    text=st.integers(1, 512),
    gpus=st.integers(1, 8),
    link=st.sampled_from([0.1, 20, 450]),
    schedule=st.sampled_from(["auto", "gather", "staged"]),
)
def test_auto_takes_the_fastest_legal_mode_of_the_table(processes, ring, ulysses, height, text, gpus, link, schedule):
    config = copy.deepcopy(DEFAULTS)
    config.cp.mode, config.cp.ring_degree, config.cp.ulysses_degree = "auto", ring, ulysses
    config.cp.schedule, config.runtime.processes, config.height = schedule, processes, height
    config.model.text_tokens, config.machine.gpus, config.machine.link_gbps = text, gpus, link
    request = resolve(config, LAPTOP)
    table = priced(request)
    assert table is request.ways  # priced once, for cp=auto and for the plan
    legal = [one for one in table if not one.problems]
    if legal:
        (mine,) = [one for one in table if one.mode == request.mode]
        assert not sharing_problems(request)
        assert mine.seconds == min(one.seconds for one in legal)
        assert mine.name in request.why
    assert resolve(config, LAPTOP).schedule == request.schedule
    assert bool(request.schedule) == MODES[request.mode].scheduled


def test_a_slow_link_is_worth_a_staged_ring(ask):
    line = ["model=flux", "machine=rtx4090x4", "cp=ring_anything", "height=1000"]
    assert ask(*line).schedule == "staged"
    assert ask(*line, "machine.link_gbps=400").schedule == "gather"
    assert ask(*line, "cp.schedule=gather").schedule == "gather"


def test_auto_takes_the_grid_where_ranks_outnumber_heads(ask):
    words = ["model=flux", "machine=h100x8", "model.heads=1", "model.head_dim=3072", "height=2048", "width=2048"]
    request = ask(*words, "machine.link_gbps=20", "cp=auto")
    assert (request.mode, request.mesh.ring, request.mesh.ulysses) == ("attention2d", 4, 2)
    assert "attention2d 4 x 2 is the fastest legal mode" in request.why
