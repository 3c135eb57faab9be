"""Main memory while ranks load: `python -m tests.benchmarks.host_memory`, some minutes, 10 GB of memory and disk.

A FLUX with a text encoder of 1 B random parameters (T5's encoder, bfloat16) and 4 ranks on CPUs, watched as they work
(resident.py: a page of a file that they share counts once). What ranks of the tiny model that it is made of hold is
taken off. It must be at most 1.15 of one copy of the pipeline and the other ranks' transformers. The
peak was 1.00 of that with --blocks=38; with --blocks=220, where the transformer has 70 M parameters (133 MiB), which
each rank holds, 0.92 (2827 MiB).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from diffusers import FluxPipeline, FluxTransformer2DModel

from launcher.families.weights import BUNDLED
from tests.benchmarks import resident

SETTINGS = ["model=flux_tiny", "runtime=cpu", "runtime.dtype=bfloat16", "runtime.threads=1", "cp=ring_anything"]
LIMIT = 1.15
CALL = ["height=64", "width=64", "steps=1", "seed=1", "model.text_tokens=16"]


def model(folder: Path, layers: int, blocks: int) -> Path:
    """Save a FLUX with a large text encoder: 1.02 B parameters with 26 layers."""
    pipe = FluxPipeline.from_pretrained(BUNDLED, torch_dtype=torch.bfloat16)
    torch.set_default_dtype(torch.bfloat16)
    config = pipe.text_encoder_2.config.to_dict() | {
        "num_layers": layers, "d_model": 2048, "d_ff": 5632, "num_heads": 32, "d_kv": 64, "is_gated_act": True,
    }  # fmt: skip
    pipe.text_encoder_2 = transformers.T5EncoderModel(transformers.T5Config(**config))
    own = dict(pipe.transformer.config) | {"joint_attention_dim": 2048, "num_single_layers": blocks}
    pipe.transformer = FluxTransformer2DModel.from_config(own)
    torch.set_default_dtype(torch.float32)
    pipe.save_pretrained(folder)
    return folder


def run(folder: Path, ranks: int, *words: str) -> tuple[int, dict[str, Any]]:
    """Make a picture: the most that its ranks held together, in bytes, and its record."""
    folder.mkdir()
    command = [sys.executable, "-m", "launcher", *SETTINGS, *CALL, f"cp.ring_degree={ranks}", *words]
    seen = [0]
    with (folder / "screen").open("w") as screen:
        child = psutil.Popen(command, cwd=folder, stdout=screen, stderr=subprocess.STDOUT)
        while child.poll() is None:
            seen.append(resident.together(resident.ranks(child)))
            time.sleep(0.2)
    if child.returncode != 0:
        sys.exit(f"ended with {child.returncode}: {(folder / 'screen').read_text()}")
    (path,) = folder.rglob("run.json")
    return max(seen), json.loads(path.read_text())


def main() -> None:
    """Print the peak and what it is compared with; exit with 1 if it is too high."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--layers", type=int, default=26, help="of the text encoder, 39 M parameters each")
    parser.add_argument("--blocks", type=int, default=8, help="single blocks of the transformer")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        before, _ = run(folder / "tiny", args.ranks)
        path = model(folder / "model", args.layers, args.blocks)
        layers = json.loads((path / "transformer" / "config.json").read_text())["num_layers"] + args.blocks
        peak, record = run(folder / "large", args.ranks, f"model.path={path}", f"model.layers={layers}")
    finally:
        shutil.rmtree(folder)
    held = record["held_bytes"]
    one, transformer = sum(held[0].values()), held[0]["transformer"]
    bound = one + (args.ranks - 1) * transformer
    weights, more = sum(sum(parts.values()) for parts in held), peak - before
    print(
        f"one copy {one / 2**20:.0f} MiB, of which the transformer {transformer / 2**20:.0f}; {args.ranks} ranks hold"
    )
    print(f"{weights / 2**20:.0f} MiB of weights; their peak is {more / 2**20:.0f} MiB above that of the tiny model, ")
    print(f"{more / bound:.2f} of one copy and {args.ranks - 1} transformers (at most {LIMIT} is wanted)")
    sys.exit(more > LIMIT * bound)


if __name__ == "__main__":
    main()
