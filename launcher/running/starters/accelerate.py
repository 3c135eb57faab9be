"""Ranks on this machine, by `accelerate launch`; one rank alone needs no help."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from launcher.machines import visible_devices

STEERING = ("ACCELERATE_", "TORCHELASTIC_", "LAUNCHER_")
SINGLE = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK")


def command(processes: int) -> list[str]:
    """Return the line that starts so many ranks. It gives every flag that the user's own accelerate would change."""
    if processes == 1:
        return [sys.executable, "-m", "launcher.worker"]
    flags = f"--multi_gpu --num_processes {processes} --num_machines 1 --machine_rank 0 --gpu_ids all"
    flags += " --mixed_precision no --dynamo_backend no --main_process_port 0"  # 0: a free port, each group its own
    flags += f" --log_dir {os.devnull} --module"  # else torchelastic leaves an empty folder in /tmp after each start
    return [sys.executable, "-m", "accelerate.commands.launch", *flags.split(), "launcher.worker"]


def environment(device: str, devices: Sequence[int], threads: int) -> dict[str, str]:
    """Return the ranks' environment: the user's, without what would steer accelerate or torchelastic.

    Args:
        device: "cpu" or "cuda".
        devices: GPUs, one a rank, counted within CUDA_VISIBLE_DEVICES.
        threads: that each rank computes with.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(STEERING) and name not in SINGLE}
    kept["OMP_NUM_THREADS"] = str(threads)
    # Spinning threads starve each other as soon as anything else runs on the cores: denoising took 2 s with this and 10
    # to 39 s without it beside one busy program on 2 cores.
    kept.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    kept["PYTHONUNBUFFERED"] = "1"
    kept["TOKENIZERS_PARALLELISM"] = "false"
    if device == "cpu":
        kept["ACCELERATE_USE_CPU"] = "true"  # else --multi_gpu insists on GPUs
        kept["CUDA_VISIBLE_DEVICES"] = ""
    else:
        names = visible_devices()
        kept["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) if names is None else names[index] for index in devices)
        kept.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # nvidia-smi's order, which the devices were chosen by
    return kept
