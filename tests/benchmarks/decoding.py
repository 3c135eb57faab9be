"""A picture of 1024 x 1024 decoded in tiles by one rank and shared by two: `python -m tests.benchmarks.decoding`.

FLUX.1's VAE with random weights, by default of half its channels. Wants two idle cores: each rank has one thread. Ends
with 1 where two take more than 0.6 of one rank's time, or draw another picture to the bit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
from diffusers import AutoencoderKL

from launcher.decoding import Decoding
from launcher.worker.decoding import decoded_by
from tests.benchmarks.medium import VAE

LIMIT = 0.6
SIDE = 1024  # pixels


def decode(rank: int, store: str, tile: int, part: int, folder: str) -> None:
    """Decode alone on rank 0, then together, and leave both times and whether the pictures are the same."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", store=dist.FileStore(store, 2), rank=rank, world_size=2, timeout=timedelta(minutes=9)
    )
    torch.manual_seed(0)
    channels = tuple(width // part for width in (128, 256, 512, 512))
    vae = AutoencoderKL(**VAE | {"block_out_channels": channels}).eval()
    latents = torch.randn(1, 16, SIDE // 8, SIDE // 8)
    with torch.no_grad():
        vae.decode(latents[..., :32, :32])  # kernels are chosen
        began = time.monotonic()
        with decoded_by(vae, Decoding(tile)):
            alone = vae.decode(latents).sample if rank == 0 else None
        between = time.monotonic()
        dist.barrier()
        again = time.monotonic()
        with decoded_by(vae, Decoding(tile, shared=True)):
            together = vae.decode(latents).sample
        if rank == 0:
            assert alone is not None
            torch.save((between - began, time.monotonic() - again, torch.equal(alone, together)), f"{folder}/times")
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    """Print both times; exit with 1 if sharing gains too little."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tile", type=int, default=512, help="pixels of a side")
    parser.add_argument("--part", type=int, default=2, help="of FLUX.1's channels each rank has one in so many")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(decode, (f"{folder}/store", args.tile, args.part, folder), nprocs=2)
        one, two, same = torch.load(Path(folder) / "times")
    print(f"tiles of {args.tile}: one rank {one:.2f} s, two {two:.2f} s, {two / one:.2f} (at most {LIMIT} is wanted)")
    print("the same to the bit" if same else "another picture")
    sys.exit(not same or two > LIMIT * one)


if __name__ == "__main__":
    main()
