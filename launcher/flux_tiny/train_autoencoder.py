"""Phase 2: the autoencoder. Its latents are given: the mean colours of 8 x 8 pixels. The flow needn't wait for it.

The decoder learns to draw sharp edges and flat colours from them, noise and all; the encoder learns to find them.
"""

import os
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from launcher.flux_tiny import patterns

STEPS = 4000
RATE = 4e-3
NOISE = 0.12  # of the decoder's input, in units of the colour range [-1, 1]: what the transformer gets wrong
EMA = 0.998
SIZES = ((48, 80), (80, 48), (64, 64), (96, 96), (32, 128), (128, 32))  # pixels
BATCH_PIXELS = 24 * 64 * 64
CHECKPOINT_EVERY = 200


def draw(step: int) -> Tensor:
    """Crops of ideal pictures (n, 3, height, width) in [-1, 1]."""
    generator = torch.Generator().manual_seed(step)
    height, width = SIZES[step % len(SIZES)]
    count = BATCH_PIXELS // (height * width)
    pattern, front, back, scale = (
        torch.randint(n, (count,), generator=generator)
        for n in (len(patterns.PATTERN_NAMES), len(patterns.PALETTE), len(patterns.PALETTE) - 1, len(patterns.PERIODS))
    )
    back += back >= front  # any colour but the foreground's
    phase = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    return patterns.paint(patterns.coverage(pattern, scale, phase, height, width, 1), front, back)


def train(vae: AutoencoderKL, work: Path) -> None:
    """Train in place until STEPS, going on from a checkpoint if there is one."""
    file = work / "autoencoder.safetensors"
    torch.manual_seed(5)
    vae.to(memory_format=torch.channels_last)
    parameters = dict(vae.named_parameters())
    average = {k: p.detach().clone() for k, p in parameters.items()}
    optimizer = torch.optim.AdamW(vae.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.0)
    first = 0
    if file.exists():
        with safe_open(file, "pt") as f:
            first = int(f.metadata()["step"])
        for key, value in load_file(file).items():
            kind, _, name = key.partition("/")
            if kind == "net":
                parameters[name].data.copy_(value)
            elif kind == "average":
                average[name].copy_(value)
            else:
                optimizer.state[parameters[name]][kind] = value
    began = time.monotonic()
    for step in range(first, STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50, 2 * (STEPS - step) / STEPS)
        picture = draw(step).contiguous(memory_format=torch.channels_last)
        means = F.avg_pool2d(picture, 8)
        strength = NOISE * torch.rand(len(means), 1, 1, 1) * min(1.0, step / 500)
        decoded = vae.decode(means + strength * torch.randn_like(means)).sample
        loss = (decoded - picture).abs().mean() + (decoded - picture).square().mean()
        if step % 4 == 0:  # the encoder's job is almost linear, and pictures from words never use it
            posterior = vae.encode(picture).latent_dist
            # What lies in the latents is exact: the distribution about it is narrow.
            loss = loss + (posterior.mean - means).square().mean() + 1e-3 * (posterior.logvar + 8).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        keep = min(EMA, (1 + step) / (10 + step))
        with torch.no_grad():
            for key, p in parameters.items():
                average[key].lerp_(p, 1 - keep)
        if (step + 1) % 50 == 0:
            speed = (time.monotonic() - began) / (step + 1 - first)
            error = (decoded - picture).abs().mean().item()
            print(f"autoencoder step {step + 1}/{STEPS} {speed:.3f} s/step L1 {error:.4f}", flush=True)
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == STEPS:
            state = {f"net/{k}": p.detach() for k, p in parameters.items()}
            state |= {f"average/{k}": v for k, v in average.items()}
            state |= {f"{e}/{k}": v for k, p in parameters.items() for e, v in optimizer.state[p].items()}
            spare = file.with_suffix(".new")
            save_file({k: v.contiguous() for k, v in state.items()}, spare, metadata={"step": str(step + 1)})
            os.replace(spare, file)


def load(vae: AutoencoderKL, work: Path) -> None:
    """The moving average of the latest checkpoint."""
    state = load_file(work / "autoencoder.safetensors")
    vae.load_state_dict({k.removeprefix("average/"): v for k, v in state.items() if k.startswith("average/")})
