"""What is asked of nvidia-smi, by a stand-in that answers as the real one does."""

import os

import pytest
from shared import GPUS

from launcher import machines as machine

ANSWER = """0, GPU-aaa, NVIDIA H100 80GB HBM3, 81559, 0, 9.0
1, GPU-bbb, NVIDIA H100 80GB HBM3, 81559, 61000, 9.0
2, GPU-ccc, NVIDIA RTX A6000, 49140, 4, 8.6
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    def install(script: str) -> None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3", "NVIDIA RTX A6000"]),
        ("2,0", ["NVIDIA RTX A6000", "NVIDIA H100 80GB HBM3"]),
        ("GPU-ccc", ["NVIDIA RTX A6000"]),
        ("1,7,0", ["NVIDIA H100 80GB HBM3"]),
        ("", []),
        ("-1", []),
    ],
)
def test_visible_gpus_are_counted_from_0(smi, monkeypatch, visible, names):
    smi(f"cat <<'END'\n{ANSWER}END")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = machine.here().gpus
    assert [gpu.name for gpu in found] == names
    assert [gpu.index for gpu in found] == list(range(len(names)))


@pytest.mark.parametrize("script", ["exit 9", "echo No devices were found", "echo '0, GPU-a, X, [N/A], 0, 9.0'"])
def test_a_driver_without_an_answer_is_told_and_not_fatal(smi, script):
    smi(script)
    assert machine.here().gpus == ()
    assert "nvidia-smi" in str(machine.here())


def test_memory_that_others_hold_and_capabilities_are_known(smi):
    smi(f"cat <<'END'\n{ANSWER}END")
    assert [gpu.used_mib for gpu in machine.here().gpus] == [0, 61000, 4]
    assert [gpu.capability for gpu in machine.here().gpus] == [(9, 0), (9, 0), (8, 6)]


def test_main_memory_is_the_containers_if_it_has_a_limit(tmp_path):
    total, free = machine._memory(group=tmp_path)
    assert 0 < free < total
    (tmp_path / "memory.max").write_text(f"{1 << 30}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 29}\n")
    assert machine._memory(group=tmp_path) == (1.0, 0.5)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine._memory(group=tmp_path)[0] == total
    assert machine._memory(tmp_path / "nothing") == (0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("NVIDIA H100 80GB HBM3", "h100x8"),
        ("NVIDIA H200", "h200x8"),
        ("NVIDIA A100-SXM4-80GB", "a100x8"),
        ("NVIDIA GeForce RTX 4090", "rtx4090x4"),
        ("NVIDIA L40S", "l40sx4"),
    ],
)
def test_a_card_is_reckoned_with_its_presets_figures(name, preset):
    sheet = machine.Machine(8, (machine.Gpu(0, name, 80000),)).figures("cuda")
    figures = machine.presets()[preset]
    assert (sheet.tflops, sheet.link_gbps, sheet.source) == (
        figures["tflops"],
        figures["link_gbps"],
        f"machine={preset}",
    )


def test_a_card_that_no_preset_knows_is_reckoned_with_another_and_that_is_said():
    sheet = machine.Machine(8, (machine.Gpu(0, "NVIDIA Z9", 80000),)).figures("cuda")
    assert sheet.source.endswith("for want of figures for NVIDIA Z9")


def test_of_several_cards_the_slowest_that_is_used_counts(ask):
    gpus = tuple(machine.Gpu(i, name, 80000) for i, name in enumerate(["NVIDIA L40S", "NVIDIA H100 80GB HBM3"] * 2))
    mixed = machine.Machine(8, gpus)
    assert mixed.figures("cuda").source == "machine=l40sx4"
    assert mixed.figures("cuda", (1, 3)).source == "machine=h100x8"


def test_a_machine_that_is_not_here_is_as_its_file_says_and_as_was_typed(ask):
    request = ask("machine=h100x8", "machine.gpus=3", "machine.link_gbps=25", "model=flux")
    assert (len(request.machine.gpus), request.machine.cores, request.device) == (3, 112, "cuda")
    assert request.machine.figures("cuda").link_gbps == 25
    assert request.machine.figures("cuda").tflops == 989.4
    assert not request.machine.here
    assert ask("machine=h100x8", "runtime=cpu").machine.figures("cpu").tflops == machine.presets()["cpu2"]["tflops"]


def test_what_is_typed_of_this_machine_is_added_to_what_it_has(ask):
    assert ask("machine.link_gbps=3").machine.here
    assert ask("machine.link_gbps=3").machine.figures("cpu").link_gbps == 3
    more = ask("machine.gpus=2", "machine.card=H100").machine
    assert not more.here
    assert more.name == "this machine with machine.card, machine.gpus"
    assert more.figures("cuda").tflops == 989.4
    assert ask("machine=cpu2", "machine.cores=16", machine=GPUS).machine.gpus == ()
