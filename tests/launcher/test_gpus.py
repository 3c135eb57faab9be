"""CUDA devices, as NVML and nvidia-smi tell of them: by stand-ins that answer as the real ones do."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pynvml
import pytest

from launcher import gpus
from launcher.gpus import by_nvml, visible

ANSWER = """0, GPU-aaa, NVIDIA H100 80GB HBM3, 81559, 0, 9.0
1, GPU-bbb, NVIDIA H100 80GB HBM3, 81559, 61000, 9.0
2, GPU-ccc, NVIDIA RTX A6000, 49140, 4, 8.6
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    def no_library() -> None:
        raise LookupError

    monkeypatch.setattr(gpus, "by_nvml", no_library)

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
    found = gpus.found().gpus
    assert [gpu.name for gpu in found] == names
    assert [gpu.index for gpu in found] == list(range(len(names)))


@pytest.mark.parametrize("script", ["exit 9", "echo No devices were found"])
def test_a_driver_without_an_answer_is_told_and_not_fatal(smi, script):
    smi(script)
    assert gpus.found().gpus == ()
    assert "nvidia-smi" in gpus.found().note


def test_memory_that_others_hold_and_capabilities_are_known(smi):
    smi(f"cat <<'END'\n{ANSWER}END")
    assert [gpu.used_mib for gpu in gpus.found().gpus] == [0, 61000, 4]
    assert [gpu.capability for gpu in gpus.found().gpus] == [(9, 0), (9, 0), (8, 6)]


def test_one_odd_device_does_not_hide_the_others(smi):
    smi("echo '0, GPU-a, X, [N/A], [N/A], [N/A]'; echo '1, GPU-b, Y, 100, 1, 9.0'; echo 'ERR!'")
    assert [(gpu.index, gpu.name, gpu.memory_mib) for gpu in gpus.found().gpus] == [(0, "X", 0), (1, "Y", 100)]
    assert "ERR!" in gpus.found().note


class Driver:
    """What stands in for the driver's library: the module's functions over some devices, its own errors."""

    NVMLError = pynvml.NVMLError
    NVML_DEVICE_MIG_ENABLE = pynvml.NVML_DEVICE_MIG_ENABLE

    def __init__(self, *devices: dict[str, object] | int) -> None:
        self.devices, self.ended = devices, 0

    def nvmlInit(self) -> None: ...  # noqa: N802 - the library's names

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.ended += 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:  # noqa: N802
        return self._of(self.devices[index])

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: dict, number: int) -> object:  # noqa: N802
        return self._of(device["instances"][number])

    def nvmlDeviceGetMaxMigDeviceCount(self, device: dict) -> int:  # noqa: N802
        return len(device.get("instances", []))

    def nvmlDeviceGetMigMode(self, device: dict) -> list[int]:  # noqa: N802
        if "instances" not in device:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [pynvml.NVML_DEVICE_MIG_ENABLE, 0]

    def nvmlDeviceGetMemoryInfo(self, device: dict) -> object:  # noqa: N802
        total = self._of(device.get("memory", 81559))
        return SimpleNamespace(total=total << 20, used=5 << 20)

    def nvmlDeviceGetCudaComputeCapability(self, device: dict) -> tuple[int, int]:  # noqa: N802
        return self._of(device.get("capability", (9, 0)))

    def nvmlDeviceGetName(self, device: dict) -> str:  # noqa: N802
        return device["name"]

    def nvmlDeviceGetUUID(self, device: dict) -> str:  # noqa: N802
        return device["uuid"]

    def nvmlDeviceGetPciInfo(self, device: dict) -> object:  # noqa: N802
        if device["uuid"].startswith("MIG-"):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        return SimpleNamespace(busId="00000000:3B:00.0")

    def nvmlDeviceGetGpuInstanceId(self, device: dict) -> int:  # noqa: N802
        return self._of(device["numbers"][0])

    def nvmlDeviceGetComputeInstanceId(self, device: dict) -> int:  # noqa: N802
        return self._of(device["numbers"][1])

    @staticmethod
    def _of(value):
        """A negative number stands for one of the library's errors."""
        if isinstance(value, int) and value < 0:
            raise pynvml.NVMLError(-value)
        return value


H100 = [{"name": "NVIDIA H100 80GB HBM3", "uuid": f"GPU-{letter * 3}"} for letter in "abcd"]
LOST = -pynvml.NVML_ERROR_GPU_IS_LOST
MIG = {
    "name": "NVIDIA A100-SXM4-80GB",
    "uuid": "GPU-mig",
    "capability": (8, 0),
    "instances": [
        {"name": "NVIDIA A100-SXM4-80GB MIG 3g.40gb", "uuid": "MIG-1", "memory": 40000, "capability": -3,
         "numbers": (1, 0)},
        -pynvml.NVML_ERROR_NOT_FOUND,
        {"name": "NVIDIA A100-SXM4-80GB MIG 1g.10gb", "uuid": "MIG-2", "memory": 9728, "capability": -3,
         "numbers": (9, 0)},
    ],
}  # fmt: skip


def test_the_driver_tells_of_every_device():
    driver = Driver(*H100)
    devices, odd = by_nvml(driver)
    assert [device.gpu.index for device in devices] == [0, 1, 2, 3]
    assert devices[2].gpu == gpus.Gpu(2, "NVIDIA H100 80GB HBM3", 81559, 5, (9, 0))
    assert (odd, driver.ended) == ([], 1)


def test_a_lost_device_is_told_and_the_others_keep_their_indices():
    """Ranks are given the driver's own indices, so a hole stays a hole."""
    devices, odd = by_nvml(Driver(H100[0], LOST, H100[2]))
    assert [gpu.index for gpu in visible(devices, None)] == [0, 2]
    assert odd == ["GPU 1 does not answer: GPU is lost"]


def test_a_device_without_memory_of_its_own_is_used():
    devices, _ = by_nvml(Driver({"name": "NVIDIA GB10", "uuid": "GPU-x", "memory": -pynvml.NVML_ERROR_NOT_SUPPORTED}))
    assert [(gpu.name, gpu.memory_mib) for gpu in visible(devices, None)] == [("NVIDIA GB10", 0)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["MIG-2"], ["NVIDIA A100-SXM4-80GB MIG 1g.10gb"]),
        (["MIG-1", "MIG-2"], ["NVIDIA A100-SXM4-80GB MIG 3g.40gb"]),  # a process sees the first instance only
        (["1"], ["NVIDIA A100-SXM4-80GB MIG 3g.40gb"]),
        (["0"], ["NVIDIA H100 80GB HBM3"]),
        (["GPU-aaa"], ["NVIDIA H100 80GB HBM3"]),
        (["GPU-a"], ["NVIDIA H100 80GB HBM3"]),
        (None, ["NVIDIA H100 80GB HBM3"]),
        ([], []),
        (["MIG-9"], []),
        (["MIG-GPU-mig/9/0"], ["NVIDIA A100-SXM4-80GB MIG 1g.10gb"]),  # as drivers before R470 call it
        (["MIG-GPU-mig/1/0"], ["NVIDIA A100-SXM4-80GB MIG 3g.40gb"]),
        (["MIG-GPU-mig/7/0"], []),
    ],
)
def test_instances_of_a_split_device_are_visible_by_their_uuids(names, expected):
    devices, _ = by_nvml(Driver(H100[0], MIG))
    found = visible(devices, names)
    assert [gpu.name for gpu in found] == expected
    assert [gpu.index for gpu in found] == list(range(len(found)))
    assert all(gpu.capability for gpu in found)


def test_an_instance_is_where_its_device_is():
    devices, _ = by_nvml(Driver(H100[0], MIG))
    assert [device.address for device in devices] == ["00000000:3B:00.0"] * 4
    MIG["instances"][0]["numbers"] = (-pynvml.NVML_ERROR_NOT_SUPPORTED, 0)
    try:
        assert by_nvml(Driver(MIG))[0][1].names == ("MIG-1",)
    finally:
        MIG["instances"][0]["numbers"] = (1, 0)


def test_a_machine_of_split_devices_alone_has_their_first_instance():
    devices, _ = by_nvml(Driver(MIG))
    assert [(gpu.index, gpu.memory_mib) for gpu in visible(devices, None)] == [(0, 40000)]


def test_without_a_driver_or_its_library_nvidia_smi_is_asked():
    """The real library, which is not on a machine without a driver."""
    script = "from launcher.gpus import by_nvml; print(by_nvml())"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "LookupError" in ended.stderr or ended.stdout.startswith("([Physical(")


@pytest.mark.slow
def test_torch_answers_from_a_process_of_its_own(monkeypatch, tmp_path):
    for module in ("torch", "json"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('of the current folder')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gpus.by_torch.cache_clear()
    found = gpus.by_torch()
    assert found.gpus == ()
    assert "finds none either" in found.note
    gpus.by_torch.cache_clear()
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    assert "torch gave no list" in gpus.by_torch().note
    gpus.by_torch.cache_clear()


@pytest.mark.gpu
def test_the_driver_tells_what_torch_finds():
    devices, odd = by_nvml()
    code = "import torch; print([torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert str([gpu.name for gpu in visible(devices, gpus.visible_devices())]) == ended.stdout.strip()
    assert odd == []
    torch = [(gpu.name, gpu.capability) for gpu in gpus.by_torch().gpus]
    assert torch == [(gpu.name, gpu.capability) for gpu in gpus.found().gpus]
