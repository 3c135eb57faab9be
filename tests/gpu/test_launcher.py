"""flux_tiny through the launcher on one GPU: pictures of 1 to 3 ranks beside the CPU's, a killed rank, a full card."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
NEEDED = ("diffusers", "transformers", "accelerate", "hydra", "psutil", "tqdm", "PIL")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}, not installed")

ASKED = ("height=250", "width=256", "steps=4", "seed=7", "runtime.dtype=float32")
GPU = ("runtime=gpu", "cp.transport=host")


def environment(gpu: bool) -> dict[str, str]:
    from shared import ROOT, hermetic

    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return hermetic(CUDA_VISIBLE_DEVICES="0" if gpu else "", PYTHONPATH=os.pathsep.join(paths))


def launch(folder: Path, *words: str, gpu: bool = True) -> subprocess.CompletedProcess[str]:
    from shared import command

    folder.mkdir(exist_ok=True)
    return subprocess.run(
        command(*words), cwd=folder, env=environment(gpu), capture_output=True, text=True, timeout=150, check=False
    )


def pixels(folder: Path):
    import numpy as np
    from PIL import Image

    (path,) = folder.glob("outputs/**/0000.png")
    return np.asarray(Image.open(path)).astype(int)


WAYS = {
    "the CPU": ("cp=none", "runtime=cpu"),
    "1 rank": ("cp=none", "runtime=gpu"),
    "2 ranks": ("cp=ring_anything", "cp.ring_degree=2", *GPU),
    "3 ranks": ("cp=ring_anything", "cp.ring_degree=3", *GPU),
    "1 rank, by blocks": ("cp=none", "runtime=gpu", "runtime.offload=group"),
    "2 ranks, by blocks": ("cp=ring_anything", "cp.ring_degree=2", *GPU, "runtime.offload=group"),
    "2 ranks, by layers": ("cp=ring_anything", "cp.ring_degree=2", *GPU, "runtime.offload=sequential"),
    "3 ranks, Ulysses": ("cp=ulysses_anything", "cp.ulysses_degree=3", *GPU),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All pictures, made at the same time: to start takes longer than to draw."""
    folders = {way: tmp_path_factory.mktemp("run") for way in WAYS}
    with ThreadPoolExecutor(len(WAYS)) as pool:
        ended = {
            way: pool.submit(launch, folder, *ASKED, *WAYS[way], gpu=way != "the CPU")
            for way, folder in folders.items()
        }
    return {way: (folders[way], job.result()) for way, job in ended.items()}


@pytest.mark.parametrize("way", [way for way in WAYS if way != "the CPU"])
def test_picture(way, runs, check):
    import numpy as np

    for folder, done in (runs["the CPU"], runs[way]):
        assert done.returncode == 0, done.stderr + "".join(log.read_text()[-2000:] for log in folder.rglob("*.log"))
    apart = np.abs(pixels(runs[way][0]) - pixels(runs["the CPU"][0]))
    check(f"flux_tiny, {way}: most levels apart", apart.max(), 4)
    check(f"flux_tiny, {way}: mean levels apart", apart.mean(), 0.05)
    (record,) = runs[way][0].glob("outputs/**/run.json")
    times = json.loads(record.read_text())["times"]
    print(way, times)
    check(f"flux_tiny, {way}: 4 steps", times["denoise"], unit="s")


def test_a_killed_rank(tmp_path, check):
    import psutil
    from shared import cause, command, group

    words = (*ASKED[:2], "steps=1000", "cp=ring_anything", "cp.ring_degree=2", *GPU)
    with subprocess.Popen(
        command(*words), cwd=tmp_path, env=environment(True), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            end, found = time.monotonic() + 60, None
            while time.monotonic() < end and process.poll() is None:
                found = group(psutil.Process(process.pid))
                logs = [log.read_text() for log in tmp_path.rglob("rank1.log")]
                if len(found.ranks) == 2 and logs and _holds_memory(found.ranks[1].pid):
                    break
                time.sleep(0.2)
            time.sleep(2)
            found.ranks[1].kill()
            begin = time.monotonic()
            _, err = process.communicate(timeout=30)
            seconds = time.monotonic() - begin
        finally:
            process.kill()
    assert process.returncode == 1, err
    assert "rank 1: killed by SIGKILL" in cause(err)
    assert not found.left(5)
    check("a killed rank: to the end of the launcher", seconds, 5, unit="s")


def _holds_memory(pid: int) -> bool:
    """Whether the process has opened the GPU."""
    try:
        return any("nvidia" in os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def test_a_full_card(tmp_path, check):
    """Others hold the card but for little: the rank that runs out says so, and what the plan had estimated."""
    from shared import cause

    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    held = torch.empty(free - (3 << 30), dtype=torch.uint8, device="cuda")
    try:
        size = ("height=4000", "width=4096", "steps=2", "seed=7", "runtime.dtype=float32")
        done = launch(tmp_path, *size, "cp=ring_anything", "cp.ring_degree=2", *GPU)
    finally:
        del held
        torch.cuda.empty_cache()
    assert done.returncode == 1, done.stdout
    line = cause(done.stderr)
    print(line)
    assert re.match(r"launcher: rank \d: out of GPU memory", line), line
    assert "estimated" in line


def test_two_ranks_on_one_gpu_are_refused_without_the_host_transport(tmp_path):
    done = launch(tmp_path, *ASKED, "cp=ring_anything", "cp.ring_degree=2", "runtime=gpu")
    assert done.returncode == 1
    assert "cp.transport=host" in done.stderr
