"""Loading weights beside reading their files: `python -m tests.benchmarks.loading [--gib 3] [--turns 3] [--json]`.

A FLUX whose transformer has FLUX.1-dev's blocks (hidden 3072, random bfloat16), as many as `--gib` asks for (24: all
of its size, 12 B parameters), is written into a temporary folder. In turns, each with its files out of the page cache:
`dd` reads them, and a process of its own loads the pipeline as a rank does and reads all weights once, as a copy to a
GPU would. What importing takes is left out; memory is what was added by loading: `private` is the process's own,
`mapped` is the page cache's, which all ranks share.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.medium import build

BLOCK = 141_591_808 * 2  # bytes of a single block in bfloat16
WIDE = {"num_layers": 1, "num_attention_heads": 24, "joint_attention_dim": 1024, "guidance_embeds": True}
LOADED = """
import json, sys, time
import torch
from launcher.wire.jobs import Load
from launcher.worker.load import load_pipeline

def held():
    lines = dict(line.split(":") for line in open("/proc/self/status") if line.startswith("Rss"))
    return {name: int(text.split()[0]) * 1024 for name, text in lines.items()}

torch.set_num_threads(1)
before, began = held(), time.perf_counter()
pipe = load_pipeline(Load("FluxPipeline", sys.argv[1], None, "bfloat16", "cpu", "none", 60.0, "auto"), sys.argv[1])
built = time.perf_counter()
weights = [weight for part in (pipe.transformer, pipe.text_encoder_2, pipe.vae) for weight in part.parameters()]
for weight in weights:  # a number of each page: all of it is brought here, and none of it computed with
    weight.detach().view(torch.int16).reshape(-1)[::2048].sum()
ended, after = time.perf_counter(), held()
print(json.dumps({
    "built": built - began, "seconds": ended - began, "bytes": sum(weight.nbytes for weight in weights),
    "private": after["RssAnon"] - before["RssAnon"], "mapped": after["RssFile"] - before["RssFile"],
}))
"""


def forget(files: list[Path]) -> None:
    """Have the system drop files from its page cache."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read(files: list[Path]) -> float:
    """Seconds that `dd` takes for all of them, one after the other."""
    began = time.perf_counter()
    for file in files:
        subprocess.run(["dd", f"if={file}", "of=/dev/null", "bs=16M"], check=True, capture_output=True)
    return time.perf_counter() - began


def loaded(folder: Path) -> dict[str, Any]:
    """What a process that loads the pipeline tells of it."""
    done = subprocess.run([sys.executable, "-c", LOADED, str(folder)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def main() -> None:
    """Print medians and the ratio, whose aim is 1.15."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=3.0)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    place = Path(tempfile.mkdtemp())
    try:
        blocks = max(1, round(args.gib * 2**30 / BLOCK) - 3)
        folder = build(place / "model", torch.bfloat16, num_single_layers=blocks, **WIDE)
        files = sorted(folder.rglob("*.safetensors"))
        turns = []
        for _ in range(args.turns):
            forget(files)
            seconds = read(files)
            forget(files)
            turns.append({"dd": seconds, **loaded(folder)})
    finally:
        shutil.rmtree(place)
    told = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
    told["ratio"] = statistics.median(turn["seconds"] / turn["dd"] for turn in turns)
    if args.json:
        print(json.dumps(told, indent=2))
        return
    gib = {name: told[name] / 2**30 for name in ("bytes", "private", "mapped")}
    print(f"dd {told['dd']:.2f} s; loaded {told['seconds']:.2f} s, built after {told['built']:.2f} s", end="; ")
    print(f"ratio {told['ratio']:.2f}")
    print(f"weights {gib['bytes']:.2f} GiB; added {gib['private']:.2f} GiB of its own, {gib['mapped']:.2f} GiB mapped")


if __name__ == "__main__":
    main()
