"""What makes a request fit: named where it does not, and taken by memory=auto."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from launcher.cli.plan_page import page
from launcher.cli.screen import header, in_bytes
from launcher.config.compose import to_config
from launcher.estimates import memory, weights
from launcher.estimates.notes import notes
from launcher.estimates.plan import plan
from launcher.estimates.savings import shortage
from launcher.gpus import Gpu
from launcher.machines import Machine
from launcher.records.run_dir import RunDir
from launcher.rules import problems
from launcher.running import replay
from launcher.running.first_record import first_record, resolved
from launcher.running.message import group_key, job_message

CARDS = ["machine=h100x8", "machine.gpus=4"]
LARGE = ["runtime=cpu", "height=2048", "width=2048"]
TIGHT = Machine(2, memory_gib=4, free_gib=1.6)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([*LARGE, "cp=none"], "vae.tiling=true"),
        ([*LARGE, "cp=none", "height=1024", "width=1024", "images=8", "batch=8"], "vae.slicing=true"),
        (["model=flux2", "cp=none", "machine=h100x8", "machine.gpus=1"], "runtime.offload=model"),
        (["model=flux", "cp=none", *CARDS, "machine.memory_gib=24"], "runtime.offload=model"),
        (["model=flux", "cp=none", *CARDS, "machine.memory_gib=12"], "runtime.offload=group"),
        (["model=flux", "cp=none", *CARDS, "machine.memory_gib=3.7"], "vae.tiling=true runtime.offload=sequential"),
        (
            ["model=wan_t2v_14b", "cp=ring_anything", "cp.ring_degree=2", *CARDS, "machine.memory_gib=26"],
            "runtime.weights=sharded cp.ring_degree=4",
        ),
        (["model=hunyuan_video", "cp=none", "machine=rtx4090x4"], "vae.tiling=true runtime.offload=group"),
        ([*LARGE, "cp=none", "height=512", "width=512", "model.vae_width=300"], "runtime.dtype=bfloat16"),
    ],
)
def test_the_option_that_is_named_fits_and_is_legal(ask, words, named):
    (told,) = [note for note in notes(ask(*words, machine=TIGHT)) if "may run out of memory" in note]
    (typed,) = re.findall("type (.+), with which it fits$", told)
    assert typed == named
    again = ask(*words, *typed.split(), machine=TIGHT)
    assert shortage(again) is None
    assert problems(again, plan=True) == problems(ask(*words, machine=TIGHT), plan=True)


def test_memory_auto_takes_it_and_says_so_everywhere(ask, composer, tmp_path):
    typed, auto = ask(*LARGE, "cp=none", machine=TIGHT), ask(*LARGE, "cp=none", "memory=auto", machine=TIGHT)
    assert (typed.taken, typed.config.vae.tiling) == ((), False)
    assert (auto.taken, auto.config.vae.tiling) == (("vae.tiling=true",), True)
    needs = f"each rank needs about {memory.estimate(typed).total / memory.GIB:.1f} GiB, and 1.6 GiB are free"
    assert auto.taken_why == f"memory=auto takes vae.tiling=true: without it {needs}"
    made = plan(auto)
    for shown in (header(auto, tmp_path), " ".join(page(made, auto, "").split())):
        assert f"fits by    {auto.taken_why}"[11:] in shown
    assert (made.legal, made.memory_options) == (True, ("vae.tiling=true",))
    assert not any("out of memory" in note for note in made.notes)
    record = first_record(auto, ["memory=auto"], [])
    assert record.memory_options == ("vae.tiling=true",)
    assert resolved(auto) == resolved(ask(*LARGE, "cp=none", "vae.tiling=true", f"seed={auto.seed}", machine=TIGHT))
    recipe = job_message(auto, RunDir(tmp_path)).recipe.config
    assert "memory" not in recipe
    for config in (record.config, recipe):  # on a machine with room, too
        again = to_config(composer.compose(replay.words(config, [], composer)))
        assert (again.vae.tiling, again.vae.tile, again.memory) == (True, 512, "typed")


def test_memory_auto_changes_nothing_that_fits(ask):
    roomy = Machine(2, memory_gib=64, free_gib=40)
    assert ask(*LARGE, "memory=auto", machine=roomy).taken == ()
    assert group_key(ask(*LARGE, "memory=auto", machine=roomy)) == group_key(ask(*LARGE, machine=roomy))


SMALL = ["model=wan_t2v_14b", "machine=rtx4090x4"]  # 42 GiB where each rank holds all of its transformer


def test_cp_auto_shards_weights_that_cards_do_not_hold_in_any_mode(ask, composer, tmp_path):
    typed, auto = ask(*SMALL, "runtime.weights=replicated"), ask(*SMALL)
    assert (typed.weights, auto.weights, auto.taken) == ("replicated", "sharded", ())
    assert memory.lacking(typed)
    assert memory.lacking(auto) == []
    parts = [one for one in auto.ways if not one.problems]
    assert auto.mode == min(parts, key=lambda one: one.seconds).mode
    assert auto.why.startswith(f"{auto.mode} with sharded weights is the fastest mode that fits, at about ")
    need = memory.estimate(typed).total / memory.GIB
    assert auto.why.endswith(f"holds all weights, no mode fits (at least {need:.1f} GiB on rank 0, of 24.0)")
    assert problems(auto, plan=True) == problems(typed, plan=True)
    made = plan(auto)
    for shown in (header(auto, tmp_path), " ".join(page(made, auto, "").split())):
        assert f", sharded weights\nbecause    {auto.why}" in shown or f", sharded weights because {auto.why}" in shown
    assert (made.weights, made.legal) == ("sharded", True)
    assert next(row.seconds for row in made.modes if row.mode == auto.mode) > made.replicated_seconds
    config = first_record(auto, [], []).config
    assert (config["runtime"]["weights"], config["cp"]["mode"]) == ("sharded", auto.mode)
    again = to_config(composer.compose(replay.words(config, [], composer)))  # wherever it is made again
    assert (again.runtime.weights, again.cp.mode) == ("sharded", auto.mode)
    alone = to_config(composer.compose(replay.words(config, ["cp=none"], composer)))
    assert alone.runtime.weights == "auto"
    assert group_key(auto).load.sharded == ("transformer",)


def test_what_is_free_has_no_say_in_it(ask):
    def on(used: int):
        cards = tuple(Gpu(index, "RTX 4090", 49152, used, (8, 9)) for index in range(4))
        return ask("model=wan_t2v_14b", machine=Machine(32, cards, memory_gib=256, free_gib=256))

    assert (on(0).weights, on(30000).weights) == ("replicated", "replicated")
    assert memory.lacking(on(30000))
    short = ask("machine=rtx4090x4", "model=flux")
    assert short.weights == "sharded"  # 35 GiB
    less = replace(short.machine, gpus=tuple(replace(gpu, used_mib=20000) for gpu in short.machine.gpus))
    assert ask("model=flux", machine=replace(less, name="here")).weights == "sharded"


@pytest.mark.parametrize(
    "words",
    [
        ["cp=ring_anything"],  # a mode that was typed
        ["runtime.processes=1"],
        ["runtime.offload=model"],  # what does not go with it
        ["cp.cfg_degree=2"],
        ["machine.memory_gib=16"],  # too little for the encoder, either way
        ["machine.memory_gib=48"],  # enough
        ["machine=rtx4090_2nodes_100gbit"],
    ],
)
def test_cp_auto_leaves_weights_whole_where_parts_are_no_way_out(ask, words):
    request = ask(*SMALL, *words)
    assert (request.weights, "sharded" in request.why) == ("replicated", False)
    assert problems(request, plan=True) == problems(ask(*SMALL, *words, "runtime.weights=replicated"), plan=True)


def test_with_cp_auto_sharded_weights_come_with_a_mode_that_takes_them(ask):
    guided = ask("model=qwenimage", "machine=h100x8", "runtime.weights=sharded")
    assert (guided.mesh.cfg, ask("model=qwenimage", "machine=h100x8").mesh.cfg) == (1, 2)


def test_memory_auto_leaves_a_mode_degrees_and_a_dtype_that_were_typed(ask):
    short = ["model=wan_t2v_14b", *CARDS, "machine.memory_gib=26", "memory=auto"]
    request = ask(*short, "cp=ring_anything", "cp.ring_degree=2")
    assert request.taken == ("runtime.offload=group",)  # with four ranks, sharded weights would fit
    request = ask(*short, "cp=ring_anything", "cp.ring_degree=2", "runtime.offload=sequential", "frames=4001")
    assert request.taken == ()
    assert "no option here makes it fit" in request.unfit[0].rule
    assert ask(*short, "cp=ring_anything").taken == ("runtime.weights=sharded",)
    assert ask(*short, "cp=ring_anything", "runtime.weights=replicated").taken == ("runtime.offload=group",)
    whole = [*LARGE, "cp=none", "height=512", "width=512", "model.vae_width=300", "memory=auto"]
    assert ask(*whole, machine=TIGHT).taken == ("runtime.dtype=bfloat16",)
    assert ask(*whole, "runtime.dtype=float32", machine=TIGHT).unfit


def test_ranks_of_a_machine_load_one_copy_and_their_transformers(ask):
    words = ["model=flux", "cp=ring_anything", *CARDS]
    one, parts = ask(*words, "cp=none"), ask(*words)
    each = weights.held_parts(parts, 1)["transformer"]
    assert memory.while_loading(parts) == memory.while_loading(one) + 3 * (each + memory.IMPORTED)
    assert memory.while_loading(ask(*words, "runtime.weights=sharded")) == memory.while_loading(parts)
    assert f"{in_bytes(memory.while_loading(parts))} of main memory" in plan_page(parts)
    here = Machine(16, parts.machine.gpus, memory_gib=64, free_gib=60)
    short = notes(ask("model=flux", "cp=ring_anything", machine=here))[0]
    need = f"{memory.while_loading(parts) / memory.GIB:.1f} GiB of main memory"
    assert short.startswith(f"loading takes about {need}, and 60.0 GiB are free")


def test_files_that_need_no_conversion_are_in_memory_once(ask):
    words = ["model=flux_tiny", "runtime=cpu", "cp=ring_anything", "cp.ring_degree=2"]
    mapped, converted = ask(*words, "runtime.dtype=float16"), ask(*words, "runtime.dtype=bfloat16")
    parts, halves = weights.held_parts(mapped, 0), weights.held_parts(converted, 0)
    assert mapped.inputs.checkpoint.dtypes["transformer"] == "float16"
    own = 2 * memory.IMPORTED + sum(rank.activations + rank.buffers for rank in memory.of_ranks(mapped))
    assert memory.while_loading(mapped) == memory.LIBRARIES + own + sum(parts.values())
    assert memory.while_loading(converted) == memory.LIBRARIES + own + sum(halves.values()) + halves["transformer"]


def test_weights_that_wait_for_a_gpu_are_each_ranks_own(ask):
    machine = Machine(16, tuple(Gpu(index, "RTX 4090", 24000) for index in range(2)), memory_gib=64, free_gib=60)
    words = ["model=flux_tiny", "runtime.dtype=float16", "cp=ring_anything", "cp.ring_degree=2"]
    offloads = (
        ask(*words, f"runtime.offload={how}", machine=machine) for how in ("none", "sequential", "group", "model")
    )
    none, sequential, group, model = map(memory.while_loading, offloads)
    assert none == sequential
    assert group == model == none + weights.held_parts(ask(*words, machine=machine), 1)["transformer"]


def test_sharded_weights_that_are_converted_are_whole_for_a_moment(ask):
    words = ["runtime=cpu", "cp=ring_anything", "cp.ring_degree=2", "model=flux_tiny", "runtime.weights=sharded"]
    assert {rank.loading for rank in memory.of_ranks(ask(*words, "runtime.dtype=float16"))} == {0}
    request = ask(*words, "runtime.dtype=bfloat16")
    for rank, need in enumerate(memory.of_ranks(request)):
        whole = weights.held_parts(weights.with_weights(request, "replicated"), rank)
        assert need.loading == memory.IMPORTED + memory.LIBRARIES + sum(whole.values())


def plan_page(request) -> str:
    """What `plan` shows."""
    return " ".join(page(plan(request), request, "").split())
