"""From the command line to the end of the first step, beside a plain script, in turns: two ranks, flux_tiny, CPUs.

    python -m tests.benchmarks.cold_start [--turns 7] [--json]     # two minutes with nothing else running

The plain script does what a user of accelerate and diffusers would write with attention_backends; `accelerate launch`
starts it as the launcher starts its ranks. Both say when rank 0's first step is done.
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

from launcher.families.weights import BUNDLED

SIZE, STEPS = 256, 2
PLAIN = """
import os, sys, time
import torch
import torch.distributed as dist
from diffusers import FluxPipeline
import attention_backends

torch.set_num_threads(1)
dist.init_process_group("gloo")
pipe = FluxPipeline.from_pretrained(sys.argv[1], torch_dtype=torch.float32, use_safetensors=True)
pipe.set_progress_bar_config(disable=True)
attention_backends.enable(pipe.transformer, ring_degree=2, ring_anything=True)

def ended(pipe, step, time_step, tensors):
    if step == 0 and dist.get_rank() == 0:
        with open(sys.argv[2], "w") as mark:
            mark.write(repr(time.time()))
    return tensors

with torch.inference_mode():
    image = pipe("red dots on a yellow background", height=int(sys.argv[3]), width=int(sys.argv[3]),
                 num_inference_steps=int(sys.argv[4]), generator=torch.Generator().manual_seed(1),
                 callback_on_step_end=ended).images[0]
if dist.get_rank() == 0:
    image.save(sys.argv[2] + ".png")
dist.barrier()
dist.destroy_process_group()
"""
# The launcher as it is, whose bar notes when it is told of a step.
LAUNCHED = """
import runpy, sys, time
from launcher.cli import progress

step = progress.Bar.step
def noted(bar):
    if not bar.done:
        with open(mark, "w") as file:
            file.write(repr(time.time()))
    step(bar)

mark = sys.argv.pop(1)
progress.Bar.step = noted
runpy.run_module("launcher", run_name="__main__", alter_sys=True)
"""
ACCELERATE = [
    "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--machine_rank",
    "0", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "--rdzv_backend", "c10d",
    "--rdzv_conf", "store_type=file",
]  # fmt: skip
WAYS = ("plain", "launcher")


def command(way: str, folder: Path) -> list[str]:
    """What is run in `folder`, which writes the time of the first step's end into its file `mark`."""
    if way == "plain":
        script = folder / "plain.py"
        script.write_text(PLAIN)
        return [sys.executable, *ACCELERATE, str(script), str(BUNDLED), str(folder / "mark"), str(SIZE), str(STEPS)]
    words = ["model=flux_tiny", "cp=ring_anything", "cp.ring_degree=2", "runtime=cpu", f"height={SIZE}", "seed=1"]
    return [sys.executable, "-c", LAUNCHED, str(folder / "mark"), *words, f"width={SIZE}", f"steps={STEPS}"]


def seconds(way: str) -> dict[str, float]:
    """One run: seconds to the end of the first step, and to the end of the program."""
    folder = Path(tempfile.mkdtemp())
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_CONFIG_FILE": str(folder / "none.yaml")}
    (folder / "none.yaml").write_text("{}")
    try:
        began = time.time()
        done = subprocess.run(command(way, folder), cwd=folder, env=environment, capture_output=True, text=True)
        ended = time.time()
        if done.returncode:
            sys.exit(f"{way}: ended with {done.returncode}: {done.stdout[-500:]} {done.stderr[-2000:]}")
        return {"first step": float((folder / "mark").read_text()) - began, "whole": ended - began}
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Print medians of both ways, and the medians of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    for way in WAYS:
        seconds(way)  # compiles what is imported
    runs = [{way: seconds(way) for way in WAYS} for _ in range(args.turns)]
    told = {
        until: {
            **{way: statistics.median(run[way][until] for run in runs) for way in WAYS},
            "ratio": statistics.median(run["launcher"][until] / run["plain"][until] for run in runs),
        }
        for until in ("first step", "whole")
    }
    if args.json:
        print(json.dumps(told, indent=2))
    else:
        for until, row in told.items():
            print(f"{until:<11}", *(f"{name} {value:.3f}" for name, value in row.items()))


if __name__ == "__main__":
    main()
