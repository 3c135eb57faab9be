"""What an offload moves over the host link, in a step's time and in a plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from launcher.cli.plan_page import page
from launcher.estimates.plan import plan
from launcher.estimates.transfers import travelling
from launcher.estimates.ways import way
from launcher.estimates.weights import sharded_bytes
from launcher.gpus import Gpu
from launcher.machines import Machine

FLUX2 = ["model=flux2", "machine=rtx4090x4", "cp=ulysses"]
UNKNOWN = Machine(16, (Gpu(0, "NVIDIA Z9", 24000),), memory_gib=64, free_gib=60)


def offloaded(request, how, **figures):
    """The same request with an offload, on a machine of other speeds."""
    config, machine = request.config, request.machine
    config = replace(config, runtime=replace(config.runtime, offload=how))
    machine = replace(machine, config=replace(machine.config, **figures))
    return replace(request, config=config, machine=machine, ways=())


def test_a_step_takes_the_longer_of_both_with_group_and_their_sum_with_sequential(ask):
    alone = ask(*FLUX2)
    step, size = way(alone).seconds, sharded_bytes(alone)
    assert size == 2 * alone.config.model.transformer_params
    for gbps in (24, 400):  # the link takes longer, then computing does
        wire = size / gbps / 1e9
        assert (wire > step) == (gbps == 24)
        group = way(offloaded(alone, "group", host_gbps=gbps)).seconds
        assert group == pytest.approx(max(step, wire) + wire / alone.config.model.layers)
        assert way(offloaded(alone, "sequential", host_gbps=gbps)).seconds == pytest.approx(step + wire)
    assert way(offloaded(alone, "model")).seconds == step


def test_guidance_moves_the_weights_in_each_of_its_calls(ask):
    words = ["model=wan_t2v_14b", "machine=rtx4090x4", "cp=ring_anything", "cp.ring_degree=2"]
    halves = offloaded(ask(*words, "cp.cfg_degree=2"), "group")
    both = replace(halves, mesh=replace(halves.mesh, cfg=1))
    moved, twice = travelling(halves, None), travelling(both, None)
    assert twice.bytes == 2 * moved.bytes == 2 * sharded_bytes(halves)
    assert twice.seconds == pytest.approx(twice.bytes / 24e9)


def test_ranks_on_one_gpu_share_its_link(ask):
    card = replace(UNKNOWN, gpus=(Gpu(0, "RTX 4090", 24000),))
    words = ["model=flux", "runtime.offload=group"]
    alone, two = (
        travelling(ask(*words, *more, machine=card), None)
        for more in (["cp=none"], ["cp=ring", "cp.ring_degree=2", "runtime.devices=[0]"])
    )
    assert two.seconds == pytest.approx(2 * alone.seconds)


def test_a_plan_says_what_it_costs(ask):
    alone = ask(*FLUX2)
    request = offloaded(alone, "group")
    made = plan(request)
    assert (made.offload.each, made.offload.step_seconds) == ("step", way(alone).seconds)
    shown = " ".join(page(made, request, "").split())
    assert (
        "offload group moves 60 GiB to the GPU in each step, which takes the link about 2.69 s: 2.73 s a step" in shown
    )
    assert "beside 703 ms without an offload" in shown
    moved = travelling(offloaded(alone, "model"), None)
    assert (moved.each, moved.seconds) == ("call", pytest.approx(2 * moved.bytes / 24e9))
    assert travelling(alone, None) is None


def test_a_link_that_nobody_knows_is_not_guessed(ask):
    words = ["model=flux", "cp=none", "runtime.offload=group"]
    request = ask(*words, machine=UNKNOWN)
    made = plan(request)
    assert made.figures.host_gbps is None
    assert made.offload.seconds is None
    assert way(request).seconds == way(ask(*words[:2], machine=UNKNOWN)).seconds
    shown = " ".join(page(made, request, "").split())
    assert "the link's speed is not known and step times leave it out: type machine.host_gbps= to have it" in shown
    typed = plan(ask(*words, "machine.host_gbps=12", machine=UNKNOWN))
    assert typed.offload.seconds == pytest.approx(made.offload.bytes / 12e9)
    assert "host_gbps=12" in typed.figures.source
