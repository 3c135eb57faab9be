"""What a user should know about a legal request."""

import re
from pathlib import Path

from launcher.estimates import memory
from launcher.estimates.notes import notes
from launcher.estimates.plan import plan
from launcher.gpus import Gpu
from launcher.machines import Machine
from launcher.running.starters import accelerate


def test_notes_are_numbers_with_what_to_type(ask):
    busy = Machine(16, tuple(Gpu(index, "NVIDIA H100 80GB HBM3", 81559, 70000 * (index == 1)) for index in range(2)))
    assert notes(ask("cp=ring_anything", machine=busy)) == [
        "GPU 1 is in use: other programs hold 68.4 of 79.6 GiB; type runtime.devices=[...] to choose others"
    ]
    assert notes(ask("cp=none", machine=busy)) == []
    small = Machine(2, memory_gib=1, free_gib=0.5)
    assert "GiB, and 0.5 GiB are free" in notes(ask("height=2000", machine=small))[0]
    assert "50 times slower" in notes(ask("runtime.dtype=float16"))[0]


def test_a_host_that_gpus_wait_for_is_told(ask):
    words = ["machine=h100x8", "model=flux", "machine.gpus=4"]
    (note,) = (note for note in notes(ask(*words)) if "its host" in note)
    assert re.fullmatch(r"a GPU waits for its host, which takes about \d+ ms to launch \d+ ms of work", note)
    assert note in notes(ask(*words, "compile=regional")), "compiled blocks were launched no faster"
    assert not any("its host" in note for note in notes(ask(*words, "height=2048", "width=2048")))
    assert not any("its host" in note for note in notes(ask("machine=h100x8")))  # too small to matter


def test_tiles_are_named_where_they_make_it_fit(ask):
    words, roomy = ["cp=none", "runtime=cpu", "height=4096", "width=4096"], Machine(2, memory_gib=64, free_gib=40)
    whole, tiled = (memory.estimate(ask(*words, *more)).total for more in ([], ["vae.tiling=true"]))
    between = Machine(2, memory_gib=64, free_gib=(whole + tiled) / 2 / memory.GIB)
    assert tiled < 0.8 * whole
    assert notes(ask(*words, machine=between))[0].endswith("type vae.tiling=true, with which it fits")
    assert not any("GiB" in note for note in notes(ask(*words, "vae.tiling=true", machine=between)))
    assert not any("GiB" in note for note in notes(ask(*words, machine=roomy)))
    tight = Machine(2, memory_gib=64, free_gib=0.5)
    assert "tiling" not in notes(ask(*words, machine=tight))[0]


def test_what_is_legal_and_far_too_large_is_noted(ask):
    made = plan(ask("machine=h100x8", "model=flux", "height=60000", "width=60000"))
    assert made.legal
    assert "GiB, and 79.6 GiB are free: it may run out of memory; type a smaller size" in made.notes[0]
    assert (
        "type runtime.weights=sharded, with which it fits"
        in notes(ask("machine=rtx4090x4", "model=flux", "cp=ring"))[0]
    )
    alone = notes(ask("machine=rtx4090x4", "model=flux", "cp=none"))[0]
    assert "type runtime.offload=model, with which it fits" in alone


def test_what_diffusers_would_read_of_the_environment_is_noted(ask, monkeypatch):
    monkeypatch.setenv("DIFFUSERS_ATTN_BACKEND", "flash")
    (note,) = notes(ask("cp=none", "runtime=cpu"))
    assert note == "DIFFUSERS_ATTN_BACKEND=flash is not read here; attention= names the kernel"
    assert "DIFFUSERS_ATTN_BACKEND" not in accelerate.environment("cpu", (), (1,), Path("/nowhere"))
