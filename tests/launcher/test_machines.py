"""This machine and others: what is asked of the system, typed, or taken from a preset."""

import pytest
from shared import GPUS

from launcher import cgroups
from launcher import machines as machine
from launcher.gpus import Gpu


def test_main_memory_and_cores_are_the_containers_if_it_has_a_limit(tmp_path, monkeypatch):
    total, free = machine._memory(group=tmp_path)
    assert 0 < free < total
    (tmp_path / "memory.max").write_text(f"{1 << 30}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 29}\n")
    assert machine._memory(group=tmp_path) == (1.0, 0.5)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine._memory(group=tmp_path)[0] == total
    assert machine._memory(tmp_path / "nothing") == (0.0, 0.0)
    for quota, cores in ((0.5, 1), (1.9, 1), (None, machine.here().cores)):
        monkeypatch.setattr(cgroups, "cpu_quota", lambda quota=quota: quota)
        assert machine.here().cores == cores


def test_torch_is_asked_only_where_a_gpu_is_insisted_on_and_none_is_known(monkeypatch):
    card = Gpu(0, "NVIDIA Z9", 80000)
    monkeypatch.setattr(machine.gpus, "by_torch", lambda: machine.gpus.Found((card,)))
    real = machine.Machine(8, asked=True)
    assert machine.insisted(real, "cuda").gpus == (card,)
    assert machine.insisted(real, "auto").gpus == ()
    assert machine.insisted(machine.Machine(8), "cuda").gpus == ()


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("NVIDIA H100 80GB HBM3", "h100x8"),
        ("NVIDIA H200", "h200x8"),
        ("NVIDIA A100-SXM4-80GB", "a100x8"),
        ("NVIDIA GeForce RTX 5090", "rtx5090x2"),
        ("NVIDIA GeForce RTX 4090", "rtx4090x4"),
        ("NVIDIA L40S", "l40sx4"),
    ],
)
def test_a_card_is_reckoned_with_its_presets_figures(name, preset):
    sheet = machine.Machine(8, (Gpu(0, name, 80000),)).figures("cuda")
    figures = machine.presets()[preset]
    assert (sheet.tflops, sheet.link_gbps, sheet.source) == (
        figures["tflops"],
        figures["link_gbps"],
        f"machine={preset}",
    )


def test_a_card_that_no_preset_knows_is_reckoned_with_another_and_that_is_said():
    sheet = machine.Machine(8, (Gpu(0, "NVIDIA Z9", 80000),)).figures("cuda")
    assert sheet.source.endswith("for want of figures for NVIDIA Z9")


def test_of_several_cards_the_slowest_that_is_used_counts(ask):
    gpus = tuple(Gpu(i, name, 80000) for i, name in enumerate(["NVIDIA L40S", "NVIDIA H100 80GB HBM3"] * 2))
    mixed = machine.Machine(8, gpus)
    assert mixed.figures("cuda").source == "machine=l40sx4"
    assert mixed.figures("cuda", (1, 3)).source == "machine=h100x8"


def test_several_machines_are_planned_for_by_what_each_of_them_has(ask):
    request = ask("machine=rtx4090_2nodes_10gbit", "model=flux", "cp=ring_anything")
    assert str(request.machine) == "2 machines, each with 32 CPU cores, 1 GPU (RTX 4090)"
    assert (request.mesh.ranks, request.devices) == (2, (0,))
    assert request.machine.figures("cuda").between_gbps == 1.25
    assert request.machine.figures("cuda").source == "machine=rtx4090x4"
    assert ask("machine=rtx4090_2nodes_100gbit", "model=flux").machine.figures("cuda").between_gbps == 12.5
    here = ask("machine.nodes=3", "cp=ring_anything", "runtime=cpu").machine
    assert (here.nodes, here.name) == (3, "this machine with machine.nodes")


def test_a_machine_that_is_not_here_is_as_its_file_says_and_as_was_typed(ask):
    request = ask("machine=h100x8", "machine.gpus=3", "machine.link_gbps=25", "model=flux")
    assert (len(request.machine.gpus), request.machine.cores, request.device) == (3, 112, "cuda")
    assert request.machine.figures("cuda").link_gbps == 25
    assert request.machine.figures("cuda").tflops == 989.4
    assert not request.machine.here
    assert ask("machine=h100x8", "runtime=cpu").machine.figures("cpu").tflops == machine.presets()["cpu2"]["tflops"]


@pytest.mark.slow
def test_what_is_typed_of_this_machine_is_added_to_what_it_has(ask):
    assert ask("machine.link_gbps=3").machine.here
    assert ask("machine.link_gbps=3").machine.figures("cpu").link_gbps == 3
    more = ask("machine.gpus=2", "machine.card=H100").machine
    assert not more.here
    assert more.name == "this machine with machine.card, machine.gpus"
    assert more.figures("cuda").tflops == 989.4
    assert ask("machine=cpu2", "machine.cores=16", machine=GPUS).machine.gpus == ()
