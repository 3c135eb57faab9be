"""Sweeps after one another in one process, fifty with FAMILY_SAMPLES: nothing grows."""

from __future__ import annotations

import gc
import json
import os
import tempfile

import psutil
import pytest
from shared import children, group

from launcher.config.compose import Composer
from launcher.running.session import Session

pytestmark = pytest.mark.slow

GROUPS = (("cp=ring_anything",), ("cp=none",), ("cp=none",))
SWEEPS = (16, 17, 17) if "FAMILY_SAMPLES" in os.environ else (6, 6, 6)
SMALL = ["runtime=cpu", "steps=1", "height=16", "width=16"]
MIB = 2**20


def held(process: psutil.Process) -> dict[str, int]:
    """What a process holds of what could leak."""
    return {"files and sockets": process.num_fds(), "threads": process.num_threads()}


def test_many_sweeps_leave_nothing_behind(tmp_path, monkeypatch):
    """Three groups of ranks are started, and the other sweeps find theirs warm.

    One rank cannot do what two did, so theirs end first; a rank that dies in the pause between two sweeps is replaced.
    """
    monkeypatch.chdir(tmp_path)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    me, pids, ours, memory = psutil.Process(), set(), [], []
    with Session(Composer()) as session:  # libraries keep what their first use needs: the report's fonts, a thread
        assert not session.sweep([*SMALL, "cp=none", "seed=1", f"hydra.sweep.dir={tmp_path / 'first'}"]).failed
    gc.collect()  # what earlier tests of this process left
    before, others = held(me), children()
    with Session(Composer()) as session:
        for words, sweeps in zip(GROUPS, SWEEPS, strict=True):
            for run in range(sweeps):
                folder = tmp_path / f"{len(pids)}-{run}"
                words_of_run = [*SMALL, *words, f"seed={run},{run + 1}", f"hydra.sweep.dir={folder}"]
                assert not session.sweep(words_of_run).failed
                records = [json.loads(path.read_text()) for path in sorted(folder.glob("*/run.json"))]
                assert [record["loads"] for record in records] == [1, 1]
                assert (folder / "contact.png").exists()
                ranks = group(me)
                if run == 2:  # warmed up
                    theirs = {rank: (process.pid, held(process)) for rank, process in ranks.ranks.items()}
                    sizes = {rank: [] for rank in ranks.ranks}
                if run >= 2:
                    for rank, process in ranks.ranks.items():
                        sizes[rank].append(process.memory_info().rss)
            assert len(ranks.ranks) == records[0]["config"]["runtime"]["processes"]
            assert children(others) == set(ranks.processes)
            assert {rank: (process.pid, held(process)) for rank, process in ranks.ranks.items()} == theirs
            for taken in sizes.values():  # what a job just freed may not have gone back yet: the least of a few
                start, middle, end = (min(taken[at : at + 3]) for at in (0, len(taken) // 2 - 1, len(taken) - 3))
                # A leak grows all the time; an allocator's new arena (13 MB were seen) is one step.
                assert min(middle - start, end - middle) < 4 * MIB, taken
            pids |= {process.pid for process in ranks.ranks.values()}
            gc.collect()
            ours.append(held(me) | {"sockets": len(ranks.ranks)})
            memory.append(me.memory_info().rss)
            if len(memory) == 2:
                ranks.ranks[0].kill()
                ranks.left(5)
    assert len(pids) == 4
    assert ours[1] == ours[2]
    assert memory[2] - memory[1] < 4 * MIB, memory  # a group's sweeps later
    assert all(now <= before[what] for what, now in held(me).items())
    assert children(others) == set()
    assert list(temporary.iterdir()) == []
    assert len(list(tmp_path.rglob("run.json"))) == 1 + 2 * sum(SWEEPS)
    assert not list(tmp_path.rglob("*.tmp"))
