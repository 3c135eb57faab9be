"""Cores of a NUMA node, on machines whose /sys is planted in a folder."""

import os
import subprocess
import sys

import pytest
from shared import ROOT

from launcher import gpus
from launcher.worker import numa


@pytest.fixture
def plant(tmp_path):
    """A /sys with these nodes' core lists and these GPUs' nodes."""

    def build(*cpulists: str, **gpus: str):
        for number, cpulist in enumerate(cpulists):
            (tmp_path / f"devices/system/node/node{number}").mkdir(parents=True)
            (tmp_path / f"devices/system/node/node{number}/cpulist").write_text(f"{cpulist}\n")
        for address, node in gpus.items():
            (tmp_path / "bus/pci/devices" / address).mkdir(parents=True)
            (tmp_path / "bus/pci/devices" / address / "numa_node").write_text(f"{node}\n")
        return tmp_path

    return build


@pytest.fixture
def pinned(monkeypatch):
    """What would be set, on a machine of 16 cores."""
    sets: list[set[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: sets.append(cores))
    return sets


@pytest.mark.parametrize(
    ("text", "cores"), [("0-3,8", {0, 1, 2, 3, 8}), ("5", {5}), ("", set()), ("0-1,4-5", {0, 1, 4, 5})]
)
def test_core_lists_are_read_as_the_kernel_writes_them(text, cores):
    assert numa.parse(f"{text}\n") == cores


def test_neighbours_share_a_node_and_ranks_are_dealt_evenly(plant, pinned):
    root = plant("0-7", "8-15")
    for rank in range(4):
        numa.pin(rank, 4, 4, None, root)
    assert pinned == [set(range(8))] * 2 + [set(range(8, 16))] * 2


def test_one_node_pins_nothing(plant, pinned):
    assert numa.pin(0, 2, 8, None, plant("0-15", "", "16-31")) is None  # the others have no cores of ours
    assert pinned == []


@pytest.mark.parametrize(("ranks", "threads"), [(1, 16), (3, 5), (2, 9)])
def test_a_rank_with_more_threads_than_its_node_has_cores_for_is_left_alone(plant, pinned, ranks, threads):
    root = plant("0-7", "8-15")
    assert numa.pin(0, ranks, threads, None, root) is None
    assert pinned == []


@pytest.mark.parametrize(("node", "cores"), [("1", set(range(8, 16))), ("-1", None), ("7", None), ("x", None)])
@pytest.mark.parametrize("name", ["GPU-b", "1", "GPU-b0", "MIG-1"])
def test_a_rank_runs_beside_its_gpu(plant, pinned, monkeypatch, name, node, cores):
    gpu = gpus.Gpu(1, "X", 100)
    device = gpus.Physical(("1", "GPU-b0b"), gpu, None, "00000000:3B:00.0")
    instance = gpus.Physical(("MIG-1",), gpu, 1, "00000000:3B:00.0")
    monkeypatch.setattr(gpus, "physical", lambda: ([gpus.Physical(("0", "GPU-a"), gpu), device, instance], []))
    root = plant("0-7", "8-15", **{"0000:3b:00.0": node})
    assert numa.pin(0, 2, 8, name, root) == cores
    assert numa.pin(0, 2, 8, "GPU-unknown", root) is None
    assert numa.pin(0, 2, 8, "0", root) is None
    assert pinned == ([cores] if cores else [])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_a_process_and_its_threads_are_really_kept_there(plant):
    cores = sorted(os.sched_getaffinity(0))[:2]
    root = plant(*map(str, cores))
    code = f"""
import os, threading
from pathlib import Path
from launcher.worker.numa import pin
assert pin(1, 2, 1, None, Path({str(root)!r})) == {{{cores[1]}}}
threading.Thread(target=lambda: print(os.sched_getaffinity(0))).start()
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == str({cores[1]})
