"""Ranks on this machine, by `accelerate launch`; one rank alone needs no help."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from launcher.gpus import visible_devices

STEERING = ("ACCELERATE_", "TORCHELASTIC_", "LAUNCHER_", "PET_")  # PET_: torchrun's own flags
SINGLE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK")
LOOPBACK = "127.0.0.1"
# accelerate reads the user's own configuration, and fails over a key that it does not know, unless it is given another.
CONFIG = "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\n"


@dataclass(frozen=True)
class Machines:
    """How many machines start ranks together, which of them this is, and where torch's elastic agents meet."""

    count: int
    number: int
    address: str
    port: int


def command(processes: int, folder: Path, machines: Machines | None = None) -> list[str]:
    """Return the line that starts this machine's part of so many ranks.

    It gives every flag that the user's own accelerate would change.

    Args:
        folder: the group's, once `prepare` was called.
        machines: where the ranks are on several.
    """
    if processes == 1:
        return [sys.executable, "-m", "launcher.worker"]
    flags = f"--multi_gpu --num_processes {processes} --gpu_ids all --mixed_precision no --dynamo_backend no"
    if machines is None:
        flags += " --num_machines 1 --machine_rank 0 --main_process_port 0"
        flags += " --rdzv_backend c10d --rdzv_conf store_type=file"
    else:  # c10d would exchange pickles over a port that asks nobody who they are; static exchanges JSON
        flags += f" --num_machines {machines.count} --machine_rank {machines.number} --rdzv_backend static"
        flags += f" --same_network --main_process_ip {machines.address} --main_process_port {machines.port}"
    flags += f" --log_dir {os.devnull}"  # else torchelastic leaves a folder in /tmp
    module = "accelerate.commands.launch" if machines is None else "launcher.running.starters.bound"
    accelerate = [sys.executable, "-m", module, "--config_file", str(folder / "accelerate.yaml")]
    return [*accelerate, *flags.split(), "--module", "launcher.worker"]


def prepare(folder: Path) -> None:
    """Write what the command reads into the group's folder."""
    (folder / "accelerate.yaml").write_text(CONFIG, encoding="utf-8")


def environment(
    device: str,
    devices: Sequence[int],
    threads: Sequence[int],
    folder: Path,
    deterministic: bool = False,
    interface: str | None = None,
    more: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Return the ranks' environment: the user's, without what would steer accelerate or torchelastic.

    Args:
        device: "cpu" or "cuda".
        devices: GPUs, one a rank, counted within CUDA_VISIBLE_DEVICES.
        threads: that each rank computes with; the most of them stands in its environment.
        folder: the group's.
        interface: of the network that joins several machines; None: the ranks are on this one alone.
        deterministic: have cuBLAS make the same numbers each time, which it is told before CUDA starts.
        more: variables of this job's own, before those of the user's environment.
    """
    # With every message, and a plan asks for the command alone.
    from launcher.records import hashes
    from launcher.wire.channel import COMPILED_VARIABLE, STORE_VARIABLE

    given = os.environ | dict(more)
    kept = {name: value for name, value in given.items() if not name.startswith(STEERING) and name not in SINGLE}
    kept["OMP_NUM_THREADS"] = str(max(threads))
    # Spinning threads starve each other as soon as anything else runs on the cores: denoising took 2 s with this and 10
    # to 39 s without it beside one busy program on 2 cores.
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    kept["PYTHONUNBUFFERED"] = "1"
    kept["PYTHONIOENCODING"] = "utf-8:backslashreplace"  # logs are files of ours, whatever the terminal's encoding is
    kept["PYTHONSAFEPATH"] = "1"  # a queue.py in the current folder is not the ranks' business
    if (root := Path(__file__).parents[3]).name not in ("site-packages", "dist-packages"):  # a checkout
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), kept.get("PYTHONPATH")]))
    kept.pop("DIFFUSERS_ATTN_BACKEND", None)  # attention= names the kernel, in each mode, and a note says so
    kept.pop("PYTHONWARNINGS", None)  # "error" would end a rank over what a library says of the next release
    kept.pop("PYTHONOPTIMIZE", None)  # 2 takes the docstrings away, which transformers reads when it is imported
    kept["TOKENIZERS_PARALLELISM"] = "false"
    if "TORCHINDUCTOR_CACHE_DIR" not in kept:
        kept["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")  # else importing torch leaves one in /tmp
        with contextlib.suppress(FileNotFoundError):  # no home: every group compiles anew
            kept[COMPILED_VARIABLE] = str(hashes.cache("compiled"))
    kept["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    if interface is None:
        # Ranks of one machine meet in files of the group's folder, and talk over the loopback device: nobody else on
        # the network is listened to. GPUs of one machine do not need the network for what they exchange.
        kept[STORE_VARIABLE] = str(folder / "store")
        kept["PET_RDZV_ENDPOINT"], kept["PET_LOCAL_ADDR"] = str(folder / "agent"), LOOPBACK
        interface = interface_of(LOOPBACK)  # lo on Linux, lo0 on macOS
    if interface is not None:
        kept.setdefault("GLOO_SOCKET_IFNAME", interface)
        kept.setdefault("NCCL_SOCKET_IFNAME", interface)
    if device == "cpu":
        kept["ACCELERATE_USE_CPU"] = "true"  # else --multi_gpu insists on GPUs
        kept["CUDA_VISIBLE_DEVICES"] = ""
    else:
        names = visible_devices(given)
        kept["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) if names is None else names[index] for index in devices)
        if deterministic:  # https://docs.nvidia.com/cuda/cublas/index.html#results-reproducibility
            kept.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        kept.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # nvidia-smi's order, which the devices were chosen by
    return kept


def interface_of(address: str) -> str | None:
    """The name of this machine's network interface that has an address."""
    import psutil  # which a plan, that asks for the command alone, does not wait for

    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return name
    return None
