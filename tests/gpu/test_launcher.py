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
    process = subprocess.Popen(
        command(*words), cwd=folder, env=environment(gpu), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        told = process.communicate(timeout=150)
    except subprocess.TimeoutExpired:
        process.terminate()  # which ends its ranks too
        told = process.communicate()
    return subprocess.CompletedProcess(words, process.returncode, *told)


def pixels(folder: Path):
    import numpy as np
    from PIL import Image

    (path,) = folder.glob("outputs/**/0000.png")
    return np.asarray(Image.open(path)).astype(int)


TWO = ("cp=ring_anything", "cp.ring_degree=2", *GPU)
ALONE = ("cp=none", "runtime=gpu")
RANKS = {"1 rank": ALONE, "2 ranks": TWO}
# How a picture is made on the card, and what more is asked for there and on the CPU that it is compared with.
WAYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "1 rank": (ALONE, ()),
    "2 ranks": (TWO, ()),
    "3 ranks": (("cp=ring_anything", "cp.ring_degree=3", *GPU), ()),
    "3 ranks, Ulysses": (("cp=ulysses_anything", "cp.ulysses_degree=3", *GPU), ()),
    "4 ranks, both": (("cp=unified_anything", "cp.ring_degree=2", "cp.ulysses_degree=2", *GPU), ()),
    "4 ranks, a grid": (("cp=attention2d", "cp.ring_degree=2", "cp.ulysses_degree=2", *GPU), ()),
    "1 rank, by blocks": ((*ALONE, "runtime.offload=group"), ()),
    "1 rank, by parts": ((*ALONE, "runtime.offload=model"), ()),
    "2 ranks, by blocks": ((*TWO, "runtime.offload=group"), ()),
    "2 ranks, by layers": ((*TWO, "runtime.offload=sequential"), ()),
    "1 rank, compiled blocks": ((*ALONE, "compile=regional"), ()),
    "2 ranks, compiled blocks": ((*TWO, "compile=regional"), ()),
    "2 ranks, one graph": ((*TWO, "compile=full"), ()),
    "2 ranks, first_block": (TWO, ("cache=first_block",)),
    "2 ranks, shared tiles": (TWO, ("vae.tiling=true", "vae.tile=128", "vae.shared=true")),
    "1 rank, deterministic": ((*ALONE, "deterministic=true"), ()),
}
for bits, package in {"int8": "torchao", "fp8": "torchao", "nf4": "bitsandbytes"}.items():
    if importlib.util.find_spec(package):
        WAYS |= {f"{name}, {bits}": (words, (f"quantization={bits}",)) for name, words in RANKS.items()}


def beside(folder: Path) -> dict[str, tuple[Path, subprocess.CompletedProcess[str]]]:
    """All pictures, some at the same time: to start takes longer than to draw."""
    if MISSING:
        return {}
    jobs = {_cpu(more): ("cp=none", "runtime=cpu", *(word for word in more if word != "vae.shared=true"))
            for _, more in WAYS.values()}  # fmt: skip
    jobs |= {way: (*words, *more) for way, (words, more) in WAYS.items()}
    # What compiles takes longest.
    jobs = dict(sorted(jobs.items(), key=lambda job: not any(word.startswith("compile=") for word in job[1])))
    folders = {way: folder / str(number) for number, way in enumerate(jobs)}
    with ThreadPoolExecutor(5) as pool:
        ended = {
            way: pool.submit(launch, folders[way], *ASKED, *words, gpu="runtime=cpu" not in words)
            for way, words in jobs.items()
        }
    return {way: (folders[way], job.result()) for way, job in ended.items()}


def _cpu(more: tuple[str, ...]) -> str:
    return " ".join(["the CPU", *more])


@pytest.mark.parametrize("way", WAYS)
def test_picture(way, beside, check):
    import numpy as np

    like, made = beside[_cpu(WAYS[way][1])], beside[way]
    for folder, done in (like, made):
        assert done.returncode == 0, done.stderr + "".join(log.read_text()[-2000:] for log in folder.rglob("*.log"))
    apart = np.abs(pixels(made[0]) - pixels(like[0]))
    check(f"flux_tiny, {way}: most levels apart", apart.max(), 4)
    check(f"flux_tiny, {way}: mean levels apart", apart.mean(), 0.05)


def test_a_sweep_of_warm_ranks(tmp_path, check):
    """A small picture after a large one holds what it held before it; its first step tells what that takes."""
    done = launch(tmp_path, "-m", "height=64,2000,64,2000", "width=2000", "steps=4", "seed=7", *ALONE)
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("outputs/**/[0-9]/run.json"))]
    small, large, again, last = records
    assert [one["loads"] for one in records] == [1] * 4
    for name, one in {"64 x 2000": again, "2000 x 2000": last}.items():
        check(f"flux_tiny after another size, {name}: peak memory", one["peak_bytes"][0] / 2**20, unit="MiB")
        first, *rest = one["step_seconds"][0]
        check(f"flux_tiny after another size, {name}: first step above others", (first - min(rest)) * 1e3, unit="ms")
    for name, before, after in (("64 x 2000", small, again), ("2000 x 2000", large, last)):
        more = after["peak_bytes"][0] / before["peak_bytes"][0] - 1
        check(f"flux_tiny after another size, {name}: peak above its first", more, 0.05)


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
    assert "were planned" in line


def test_two_ranks_on_one_gpu_are_refused_without_the_host_transport(tmp_path):
    done = launch(tmp_path, *ASKED, "cp=ring_anything", "cp.ring_degree=2", "runtime=gpu")
    assert done.returncode == 1
    assert "cp.transport=host" in done.stderr
