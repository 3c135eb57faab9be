"""The CUDA devices of this machine, asked without importing torch (1.8 s, which a refused request should not cost).

NVML, the driver's own library, is asked first; nvidia-smi where the library is not found; torch, in a process of its
own, where the user insists on a GPU and neither knows one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

MIB = 2**20
PATIENCE = 10  # seconds for nvidia-smi
TORCH_PATIENCE = 60  # seconds for torch, which is imported and starts CUDA


@dataclass(frozen=True)
class Gpu:
    """One visible CUDA device; `index` counts the visible ones, as torch does.

    used_mib: what others hold of its memory. capability: its compute capability, () if not known.
    """

    index: int
    name: str
    memory_mib: int
    used_mib: int = 0
    capability: tuple[int, ...] = ()


@dataclass(frozen=True)
class Found:
    """What was found: `note` says what did not answer, in brackets behind the list."""

    gpus: tuple[Gpu, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Physical:
    """A device as the driver knows it, or one instance of a device that is split (MIG)."""

    names: tuple[str, ...]  # what CUDA_VISIBLE_DEVICES may call it: an index, a UUID, both with any beginning
    gpu: Gpu
    parent: int | None = None  # of an instance: the index of its device
    address: str = ""  # on the PCI bus, "00000000:3B:00.0"; empty where it is not known


def found() -> Found:
    """The devices that CUDA shows to this user's programs. `CUDA_VISIBLE_DEVICES` is respected."""
    devices, odd = physical()
    return Found(visible(devices, visible_devices()), f" ({'; '.join(odd)})" if odd else "")


def physical() -> tuple[list[Physical], list[str]]:
    """The devices that the driver knows, visible or not, and what did not answer."""
    try:
        return by_nvml()
    except LookupError:
        return by_smi()


def address(name: str) -> str:
    """Where on the PCI bus the device is that CUDA_VISIBLE_DEVICES calls by this name; empty where nobody knows."""
    return next((device.address for device in physical()[0] if _named(device, name)), "")


def _has_driver() -> bool:
    """Whether the driver's library loads, as pynvml would load it: to import that takes longer than a refusal may."""
    import ctypes

    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def by_nvml(nvml: Any = None) -> tuple[list[Physical], list[str]]:
    """Devices by the driver's library, and what did not answer.

    Args:
        nvml: the module pynvml, or what stands in for it.

    Raises:
        LookupError: there is no such library, or no driver.
    """
    if nvml is None:
        if sys.platform == "linux" and not _has_driver():
            raise LookupError("no NVIDIA driver")
        try:
            import pynvml
        except ImportError as error:
            raise LookupError("nvidia-ml-py is not installed") from error
        nvml = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise LookupError(str(error)) from error
    devices: list[Physical] = []
    odd: list[str] = []
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                device = _device(nvml, handle, index)
                devices += [device, *_instances(nvml, handle, device)]
            except nvml.NVMLError as error:  # lost, or another user's: the others can be used
                odd.append(f"GPU {index} does not answer: {error}")
    except nvml.NVMLError as error:
        odd.append(f"the driver gives no list of GPUs: {error}")
    finally:
        nvml.nvmlShutdown()
    return devices, odd


def _device(nvml: Any, handle: Any, index: int) -> Physical:
    try:
        total, used = (getattr(nvml.nvmlDeviceGetMemoryInfo(handle), name) // MIB for name in ("total", "used"))
    except nvml.NVMLError:  # devices that share the main memory have none of their own
        total = used = 0
    try:
        capability = tuple(nvml.nvmlDeviceGetCudaComputeCapability(handle))
    except nvml.NVMLError:
        capability = ()
    try:
        address = _text(nvml.nvmlDeviceGetPciInfo(handle).busId)
    except nvml.NVMLError:  # an instance has none of its own
        address = ""
    name, uuid = _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle))
    return Physical((str(index), uuid), Gpu(index, name, total, used, capability), None, address)


def _instances(nvml: Any, handle: Any, parent: Physical) -> list[Physical]:
    """The instances of a device that is split; they are visible by their UUIDs, or by the device's and their numbers.

    The latter, MIG-GPU-UUID/INSTANCE/COMPUTE, is what drivers before R470 called them, and CUDA still takes it.
    """
    instances = []
    try:
        if nvml.nvmlDeviceGetMigMode(handle)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return []
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            try:
                instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
            except nvml.NVMLError:  # a place that holds none
                continue
            one = _device(nvml, instance, parent.gpu.index)
            gpu = replace(one.gpu, capability=one.gpu.capability or parent.gpu.capability)
            names = list(one.names[1:])
            with contextlib.suppress(nvml.NVMLError):
                numbers = nvml.nvmlDeviceGetGpuInstanceId(instance), nvml.nvmlDeviceGetComputeInstanceId(instance)
                names.append("MIG-{}/{}/{}".format(parent.names[1], *numbers))
            instances.append(Physical(tuple(names), gpu, parent.gpu.index, parent.address))
    except nvml.NVMLError:  # a driver or a device that knows no instances
        pass
    return instances


def by_smi() -> tuple[list[Physical], list[str]]:
    """Devices by nvidia-smi, and what did not answer; nothing where there is no such program."""
    if shutil.which("nvidia-smi") is None:
        return [], []
    columns = "index,uuid,name,memory.total,memory.used,compute_cap,pci.bus_id"
    query = ["nvidia-smi", f"--query-gpu={columns}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return [], [f"nvidia-smi gave no list of GPUs: {type(error).__name__}"]
    devices, odd = [], []
    for line in answer.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if not line.strip():
            continue
        if len(cells) < 6 or not cells[0].isdecimal():
            odd.append(f"nvidia-smi answers oddly: {line.strip()[:60]}")
            continue
        total, used = (int(cell) if cell.isdecimal() else 0 for cell in cells[3:5])  # "[N/A]" of an unusual device
        gpu = Gpu(int(cells[0]), cells[2], total, used, capability(cells[5]))
        devices.append(Physical((cells[0], cells[1]), gpu, None, cells[6] if len(cells) > 6 else ""))
    return devices, odd


def visible(devices: list[Physical], names: list[str] | None) -> tuple[Gpu, ...]:
    """Those that CUDA shows, each with the index that torch gives it.

    Args:
        names: the entries of CUDA_VISIBLE_DEVICES: indices, or beginnings of UUIDs; None: it is not set.
    """
    instances = [device for device in devices if device.parent is not None]
    split = {device.parent for device in instances}
    whole = [device for device in devices if device.parent is None and device.gpu.index not in split]
    if names is None:
        if whole or not instances:
            return tuple(device.gpu for device in whole)
        return (replace(instances[0].gpu, index=0),)
    chosen: list[Gpu] = []
    for position, name in enumerate(names):
        match = [device for device in devices if _named(device, name)]
        if match and match[0].parent is None and match[0].gpu.index in split:  # a device that is split stands for
            match = [device for device in instances if device.parent == match[0].gpu.index]  # its first instance
        if not match:  # CUDA ignores what follows an unknown entry
            break
        chosen.append(replace(match[0].gpu, index=position))
        if match[0].parent is not None:  # a process sees one instance, the first
            break
    return tuple(chosen)


def _named(device: Physical, name: str) -> bool:
    return any(known == name or (known.startswith(name) and not name.isdecimal()) for known in device.names)


def visible_devices(given: Mapping[str, str] = os.environ) -> list[str] | None:
    """The entries of CUDA_VISIBLE_DEVICES, indices or UUIDs; None if it is not set and every GPU may be used."""
    names = given.get("CUDA_VISIBLE_DEVICES")
    return None if names is None else [name for name in (part.strip() for part in names.split(",")) if name]


TORCH = """
import json, torch
print(json.dumps({"version": torch.__version__, "gpus": [
    [p.name, p.total_memory, p.major, p.minor]
    for p in (torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
]}))
"""


@functools.cache
def by_torch() -> Found:
    """The devices that torch finds, asked in a process of its own: CUDA is not to start in this one."""
    try:
        line = [sys.executable, "-P", "-c", TORCH]  # -P: a torch.py of the current folder is not asked
        ended = subprocess.run(line, capture_output=True, text=True, timeout=TORCH_PATIENCE)
        told = json.loads(ended.stdout.splitlines()[-1])
        gpus = tuple(
            Gpu(index, name, memory // MIB, 0, (major, minor))
            for index, (name, memory, major, minor) in enumerate(told["gpus"])
        )
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError) as error:
        return Found((), f" (torch gave no list of GPUs: {type(error).__name__})")
    return Found(gpus, "" if gpus else f" (torch {told['version']} finds none either)")


def capability(text: str) -> tuple[int, ...]:
    """(8, 9) of "8.9"."""
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def _text(value: str | bytes) -> str:
    """Older drivers' libraries give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
