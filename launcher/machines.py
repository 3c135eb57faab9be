"""The machine that a request is for: this one, asked without importing torch (1.8 s, which a refused request should
not cost), or one that a file in conf/machine describes.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher import cgroups, gpus
from launcher.config.paths import conf_dir
from launcher.config.schema import MachineConfig
from launcher.gpus import Gpu, capability
from launcher.wording import plural

CPU_RANKS = 2  # ranks of a parallel mode on a CPU when nothing says how many
CPU_PRESET = "cpu2"  # its figures stand for every core
UNKNOWN_CARD = "rtx4090x4"  # its figures stand for a card that no preset knows, and a plan says so
MAX_DEVICES = 4096  # of one machine, of a kind
MAX_FIGURE = 1e9  # of a speed; a rule names what is beyond
GIB = 2**30


@dataclass(frozen=True)
class Figures:
    """The data sheet of one device (a GPU, or a CPU core): estimates follow from it, the same ones every time.

    Args:
        tflops: 10^12 FLOP/s in half precision, dense; tflops_float32 likewise.
        efficiency: the part of them that a whole diffusion step reaches. FLUX on four RTX 4090 (diffusers, pull request
            13545) needs 196 ms a step without communication: 0.57 of the cards' figure.
        memory_gbps: 10^9 bytes/s of reading and writing the device's memory.
        link_gbps: 10^9 bytes/s that a rank sends, one way; link_us: 10^-6 s for a small message, one of many.
        host_gbps: 10^9 bytes/s from pinned main memory to one GPU, one way; None: not known.
        between_gbps, between_us: the same of a machine, all its ranks together, to other machines.
        source: where the figures come from, for the screen.
    """

    tflops: float
    tflops_float32: float
    memory_gbps: float
    link_gbps: float
    link_us: float
    efficiency: float = 0.57
    host_gbps: float | None = None
    between_gbps: float = 1.25
    between_us: float = 50.0
    source: str = ""


FIGURES = tuple(figure.name for figure in dataclasses.fields(Figures) if figure.name != "source")
HARDWARE = (
    "nodes",
    "card",
    "capability",
    "gpus",
    "cores",
    "memory_gib",
)  # what a machine has: to change it is to plan for another one


@dataclass(frozen=True)
class Machine:
    """Cores that this process may run on, the GPUs that it may see, and main memory (total and free, in GiB).

    nodes: machines like it that work together; all else is of each of them.
    asked: whether it is the machine under this process, which was asked for all that.
    """

    cores: int
    gpus: tuple[Gpu, ...] = ()
    note: str = field(default="", compare=False)
    memory_gib: float = 0.0
    free_gib: float = 0.0
    name: str = "here"
    asked: bool = field(default=False, compare=False)
    nodes: int = 1
    config: MachineConfig = field(default_factory=MachineConfig, compare=False)

    def __str__(self) -> str:
        names = sorted({gpu.name for gpu in self.gpus})
        cards = f"{plural(len(self.gpus), 'GPU')} ({', '.join(names)})" if self.gpus else "no CUDA GPU"
        each = f"{self.nodes} machines, each with " if self.nodes > 1 else ""
        return f"{each}{plural(self.cores, 'CPU core')}, {cards}{self.note}"

    @property
    def here(self) -> bool:
        """False for a machine that can only be planned for."""
        return self.name == "here"

    def figures(self, device: str, devices: Sequence[int] = ()) -> Figures:
        """What was typed or stated of a device, "cpu" or "cuda", else what the preset of the same card says.

        Args:
            devices: the GPUs to use, by index; of several kinds the slowest counts. Empty: all.
        """
        kind = "cuda" if self.gpus else "cpu"
        config = self.config if device == kind else MachineConfig()
        typed = {name: getattr(config, name) for name in FIGURES}
        own = {name: value for name, value in typed.items() if value is not None and 0 < value < MAX_FIGURE}
        names = {gpu.name for gpu in self.gpus if not devices or gpu.index in devices} or {"a GPU"}
        if device == "cpu":
            preset, source = presets()[CPU_PRESET], f"machine={CPU_PRESET}, each core"
        else:
            preset, source = min((_preset(name) for name in sorted(names)), key=lambda found: float(found[0]["tflops"]))
        figures = {name: preset[name] for name in FIGURES if name in preset} | own
        if own and not self.config.card:
            source += f", with {', '.join(f'{name}={value:g}' for name, value in own.items())}"
        return Figures(**figures, source=source)


def _preset(card: str) -> tuple[dict[str, Any], str]:
    """The figures of a GPU by its name, and where they come from."""
    for preset in presets().values():
        known = preset.get("card", "").lower()
        if known and "nodes" not in preset and (known in card.lower() or card.lower() in known):
            return preset, f"machine={preset['name']}"
    guessed = {key: value for key, value in presets()[UNKNOWN_CARD].items() if key != "host_gbps"}  # of its slot
    return guessed, f"machine={UNKNOWN_CARD}, for want of figures for {card}"


@functools.cache
def presets() -> dict[str, dict[str, Any]]:
    """The machines that conf/machine describes, by name."""
    import yaml

    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    files = sorted((conf_dir() / "machine").glob("*.yaml"))
    found = [yaml.load(path.read_text(encoding="utf-8"), Loader=loader) for path in files if path.stem != "here"]
    return {preset["name"]: preset for preset in found}


def planned(config: MachineConfig, here: Machine) -> Machine:
    """The machine that the configuration means: this one, or another, as far as it was described."""
    typed = [key for key in HARDWARE if getattr(config, key) is not None]
    if config.name == "here" and not typed:
        return dataclasses.replace(here, config=config)
    gpu = here.gpus[0] if here.gpus else Gpu(0, "unnamed", 0)
    count = config.gpus if config.gpus is not None else len(here.gpus)
    count = min(max(0, count), MAX_DEVICES)  # a rule names what is beyond
    memory = config.memory_gib if config.memory_gib is None or 0 < config.memory_gib < 1e9 else 0.0
    mib = round(memory * 1024) if memory is not None else gpu.memory_mib
    card = config.card if config.card is not None else gpu.name
    able = gpu.capability if config.capability is None else capability(config.capability)
    cards = tuple(Gpu(index, card, mib, 0, able) for index in range(count))
    host = memory if memory is not None and not cards else here.memory_gib
    cores = config.cores if config.cores is not None else here.cores
    name = config.name if config.name != "here" else f"this machine with {', '.join(f'machine.{key}' for key in typed)}"
    nodes = min(max(1, here.nodes if config.nodes is None else config.nodes), MAX_DEVICES)
    return Machine(min(max(1, cores), MAX_DEVICES), cards, "", host, host, name, config=config, nodes=nodes)


def devices(machine: Machine, listed: Sequence[int] | None = None) -> tuple[int, str]:
    """How many devices groups of ranks may share, and that in words: GPUs (those listed, if any are), or cores."""
    if listed and machine.gpus:
        return len(listed), f"{plural(len(listed), 'GPU')} of runtime.devices"
    count, what = (len(machine.gpus), "GPU") if machine.gpus else (machine.cores, "core")
    return count, plural(count, what)


def part(machine: Machine, groups: int, listed: Sequence[int] | None = None, group: int = 0) -> Machine:
    """What each of several groups has of a machine: as many GPUs and cores, and as much memory, as the others.

    Args:
        listed: the GPUs to use, by index; None: all. One that is not there is for a rule to name.
        group: which of the groups, from 0.
    """
    known = {gpu.index: gpu for gpu in machine.gpus}
    if groups == 1 or (listed and not known.keys() >= set(listed)):
        return machine
    gpus = tuple(known[index] for index in listed) if listed else machine.gpus
    each = len(gpus) // groups
    return dataclasses.replace(
        machine,
        cores=max(1, machine.cores // groups),
        gpus=gpus[group * each : (group + 1) * each],
        memory_gib=machine.memory_gib / groups,
        free_gib=machine.free_gib / groups,
        note=f"{machine.note}, one of {groups} parts (data)",
    )


def here() -> Machine:
    """This machine: the cores, devices and memory that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroups.cpu_quota()
    if quota is not None:
        cores = max(1, min(cores, int(quota)))
    devices = gpus.found()
    return Machine(cores, devices.gpus, devices.note, *_memory(), asked=True)


def insisted(machine: Machine, device: str) -> Machine:
    """This machine with the GPUs that torch finds, where a GPU is insisted on and no other way to ask knows one."""
    if device != "cuda" or machine.gpus or not machine.asked:
        return machine
    devices = gpus.by_torch()
    return dataclasses.replace(machine, gpus=devices.gpus, note=machine.note + devices.note)


def _memory(proc: Path = Path("/proc/meminfo"), group: Path = cgroups.ROOT) -> tuple[float, float]:
    """Main memory in GiB, total and free; a container's limit counts. (0, 0) where the system does not tell."""
    try:
        rows = dict(line.split(":", 1) for line in proc.read_text().splitlines() if ":" in line)
        total, free = (int(rows[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    except (OSError, ValueError, KeyError, IndexError):
        return 0.0, 0.0
    if (limit := cgroups.memory(group)) is not None:
        total, free = min(total, limit[0]), min(free, limit[1])
    return total / GIB, free / GIB
