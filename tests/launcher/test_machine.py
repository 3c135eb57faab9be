"""What is asked of nvidia-smi, by a stand-in that answers as the real one does."""

import os

import pytest

from launcher import machine

ANSWER = """0, GPU-aaa, NVIDIA H100 80GB HBM3, 81559
1, GPU-bbb, NVIDIA H100 80GB HBM3, 81559
2, GPU-ccc, NVIDIA RTX A6000, 49140
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


@pytest.mark.parametrize("script", ["exit 9", "echo No devices were found", "echo '0, GPU-a, X, [N/A]'"])
def test_a_driver_without_an_answer_is_told_and_not_fatal(smi, script):
    smi(script)
    assert machine.here().gpus == ()
    assert "nvidia-smi" in str(machine.here())
