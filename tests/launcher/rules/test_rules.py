"""All rules together: each is broken by some line and says what to do; lines that break none."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import REFUSALS
from shared import GPUS, LAPTOP

from attention_backends.catalog import MODES
from attention_backends.layout import split_lengths
from launcher.config.compose import Composer, to_config
from launcher.estimates.ways import resolve
from launcher.machines import Machine
from launcher.rules import ROOMS, RULES, problems

LEGAL = [
    "",
    "height=1 width=1 images=3 seed=0",
    "cp=ring_anything height=1000",
    "cp=ring_anything cp.ring_degree=5 height=16 width=16 cp.schedule=gather",
    "cp=ulysses cp.ulysses_degree=2",
    "cp=ulysses_anything cp.ulysses_degree=3 height=1000 width=1000",
    "cp=unified cp.ring_degree=2 cp.ulysses_degree=2",
    "cp=ulysses_anything cp.ulysses_degree=4",
    "cp=unified_anything cp.ring_degree=1 cp.ulysses_degree=5 height=1000 width=1000",
    "model.true_cfg=2 negative_prompt=blue runtime.dtype=bfloat16",
    "model.text_tokens=1 cp=unified_anything",
    "cp=ring_anything cp.shares=[2,1] runtime.threads=[2,1]",
    "cp.shares=auto runtime.threads=[2,1]",
    "cp=ring cp.shares=[7,7] height=1024",
    "cp=attention2d cp.shares=[1,2,3,4]",
]


@pytest.mark.parametrize("line", LEGAL)
def test_a_laptop_takes(ask, line):
    assert problems(ask(*line.split())) == []


@pytest.mark.slow
def test_every_rule_is_broken_by_some_line(asked):
    """By one of its own room, most of them, or one that says its name: few lines are composed so.

    Each line's own test reads what to do.
    """
    all_lines = [(name, *line) for name, lines in REFUSALS.items() for line in lines]
    unbroken = []
    for rule in RULES:
        if rule.__name__ == "films":
            continue  # a line can't make a film: tests/launcher/request/test_films.py breaks that rule
        room = rule.__module__.rpartition(".")[2]
        likely = sorted(all_lines, key=lambda one: (one[0] != room, rule.__name__[:5] not in one[1]))
        if not any(list(rule(asked(line, machine))) for _, line, _, machine in likely):
            unbroken.append(rule.__name__)
    assert unbroken == []


def test_every_rule_is_in_the_one_tuple_once():
    assert len(set(RULES)) == len(RULES) >= len(ROOMS)
    assert {room.__name__ for room in ROOMS} == {rule.__module__ for rule in RULES}


def test_all_problems_are_told_at_once(ask):
    found = " ".join(
        str(problem) for problem in problems(ask("height=0", "steps=0", "cp=ulysses", "cp.ulysses_degree=4"))
    )
    assert all(part in found for part in ("height=0", "steps=0", "6 heads"))


@pytest.mark.parametrize(
    ("line", "machine", "refused_too"),
    [
        ("model=chronoedit vae.slicing=true", GPUS, "batch=2"),
        ("cache=first_block vae.slicing=true", LAPTOP, "batch=2"),
        ("model=hunyuan_video_15 cache.order=2", GPUS, "cache=taylorseer"),
        ("model=wan_t2v_1_3b cache.interval=3", GPUS, "cache=pab"),
        ("compile=full cache.interval=3", LAPTOP, "cache=pab"),
        ("cp=diffusers_ring cache.interval=3", LAPTOP, "cache=pab"),
        ("output=png output.codec=h265", LAPTOP, "output=mp4"),
        ("model=hunyuan_video_15 negative_prompt=ugly", GPUS, "model.true_cfg"),
        ("model=cogvideox_2b vae.tile=512", GPUS, "vae.tiling=true"),
        ("model=cogvideox_2b vae.shared=true", GPUS, "vae.tiling=true"),
        ("frames=81", LAPTOP, "model=wan"),
        ("model=wan_t2v_1_3b runtime.device=cpu mask_image=a.png", LAPTOP, "model=flux_fill"),
        ("scheduler=ddim scheduler.shift=3", LAPTOP, "scheduler=dpmpp_2m"),
        ("check=true runtime.devices=[0]", GPUS, "cp=ring_anything"),
        ("vae.shared=true vae.tiling=true vae.tile=64 runtime.devices=[0]", GPUS, "cp=ring_anything"),
        ("model=ideogram4 cp=ring_anything runtime.devices=[0]", GPUS, "cp=unified_anything"),
        ("model=chroma cp=diffusers_ring_anything cache=pab", GPUS, "cp=ring_anything"),
        ("model=chroma cp.mode=foo cp.implementation=diffusers cache=pab", GPUS, "cp=foo"),
        ("cp=ulysses cp.ulysses_degree=2 runtime.threads=[2,1,1]", LAPTOP, "runtime.processes"),
        ("cp=diffusers_ring runtime.devices=[0] cp.shares=[1,1,1,1]", GPUS, "cp.shares=[2,1]"),
        ("machine=h100x8_2nodes cp=ring_anything cp.ring_degree=3", GPUS, "runtime.processes"),
    ],
)
def test_what_is_advised_is_not_refused_next(ask, line, machine, refused_too):
    found = problems(ask(*line.split(), machine=machine), True)
    assert found
    assert [str(problem) for problem in found if refused_too in problem.instead] == []


def test_the_mission_line_is_legal_on_gpus_but_for_the_weights(ask):
    request = ask("model=flux", "cp=ring_anything", "height=1000", machine=GPUS)
    assert [problem.value for problem in problems(request)] == ["model.path=black-forest-labs/FLUX.1-dev"]


DEFAULTS = to_config(Composer().compose([]))
degrees = st.none() | st.integers(-2, 7)


@pytest.mark.slow
@given(
    mode=st.sampled_from(["auto", *MODES]),
    ring=degrees,
    ulysses=degrees,
    processes=degrees,
    sides=st.tuples(st.integers(-3, 1100), st.integers(1, 1100)),
    text=st.integers(1, 512),
    machine=st.sampled_from([LAPTOP, GPUS, Machine(cores=1)]),
    shares=st.sampled_from([None, None, "auto", [2, 1], [3, 3], [1, 5, 2], [4, 1, 1, 1], [1] * 300, [0], 2, {}, "x"]),
    threads=st.sampled_from([None, None, 2, [1, 3], [2, 1, 1], [], "x", -1]),
)
def test_what_passes_the_rules_can_be_cut_and_nothing_makes_a_rule_fail(
    mode, ring, ulysses, processes, sides, text, machine, shares, threads
):
    """The shares of a legal request are whole, cover the sequence, and are equal where the mode needs it."""
    config = copy.deepcopy(DEFAULTS)
    config.cp.mode, config.cp.ring_degree, config.cp.ulysses_degree = mode, ring, ulysses
    config.runtime.processes, (config.height, config.width) = processes, sides
    config.model.text_tokens, config.cp.shares, config.runtime.threads = text, shares, threads
    request = resolve(config, machine)
    if problems(request):
        return
    mesh = request.mesh
    assert mesh.whole
    assert request.processes in (None, mesh.ranks)
    for length in request.streams.values():
        held = split_lengths(length, mesh.sequence, request.shares)
        assert sum(held) == length
        if MODES[request.mode].even or not request.shares:
            assert max(held) - min(held) <= (0 if MODES[request.mode].even else 1)
    assert len(request.threads) == mesh.ranks
    assert len(request.shares) in (0, mesh.sequence)
    if MODES[request.mode].heads_divide:
        assert config.model.heads % mesh.ulysses == 0
