"""What a broken shard looks like: python -m launcher.flux_tiny.shard_error [--ranks 3] [--out DIR]

Draws one picture three times from the same noise, as ranks would that share its tokens:

    exact      attention over all tokens, true positions
    local      each rank attends only to its own slice of text and image
    restarted  attention over all tokens, but each rank numbers its slice's positions from the canvas's top again

Only the noise says where a pattern lies, and all tokens must agree about it: a broken shard breaks the pattern's phase
at the seam. One process stands in for the ranks; it slices what they would hold.
"""

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FluxPipeline
from PIL import Image
from torch import Tensor

from launcher.flux_tiny import evaluate
from launcher.flux_tiny.score import Score, score
from launcher.flux_tiny.vocabulary import Meaning, read

KINDS = ("exact", "local", "restarted")
PROMPT = "blue diagonal stripes on a yellow background"


def draw(pipe: FluxPipeline, kind: str, ranks: int, prompt: str, size: int, steps: int, seed: int) -> Image.Image:
    """The square picture that `ranks` ranks would make with this kind of attention."""
    whole = pipe.transformer.forward

    def local(**arguments: Any) -> tuple[Tensor]:
        sliced = ("hidden_states", "encoder_hidden_states")
        parts = []
        for rank in range(ranks):
            own = {k: arguments[k].tensor_split(ranks, 1)[rank] for k in sliced}
            own |= {k: arguments[k].tensor_split(ranks)[rank] for k in ("img_ids", "txt_ids")}
            parts.append(whole(**{**arguments, **own})[0])
        return (torch.cat(parts, 1),)

    def restarted(**arguments: Any) -> tuple[Tensor]:
        ids = arguments["img_ids"]
        again = torch.cat([ids[: len(part)] for part in ids.tensor_split(ranks)])
        return whole(**{**arguments, "img_ids": again})

    pipe.transformer.forward = {"exact": whole, "local": local, "restarted": restarted}[kind]
    try:
        return pipe(
            prompt,
            height=size,
            width=size,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
    finally:
        pipe.transformer.forward = whole


def shares(picture: Image.Image, meaning: Meaning, ranks: int) -> list[Score]:
    """The score of each rank's band of whole token rows, with phases relative to the whole picture."""
    pixels = np.asarray(picture)
    seams = [16 * (r * (len(pixels) // 16) // ranks) for r in range(ranks + 1)]
    return [score(pixels[a:b], meaning, origin=(a, 0)) for a, b in pairwise(seams)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m launcher.flux_tiny.shard_error", description=__doc__)
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--size", type=int, default=528, help="pixels, a multiple of 16 times the ranks")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("outputs/flux_tiny_shard_error"), help="pictures go here")
    args = parser.parse_args()
    if args.size % (16 * args.ranks):
        step = 16 * args.ranks
        low = max(step, args.size // step * step)
        parser.error(f"--size {args.size}: {args.ranks} equal bands need a multiple of {step}: {low} or {low + step}")
    args.out.mkdir(parents=True, exist_ok=True)
    pipe = evaluate.load()
    meaning = read(args.prompt)
    pictures = []
    for kind in KINDS:
        picture = draw(pipe, kind, args.ranks, args.prompt, args.size, args.steps, args.seed)
        picture.save(args.out / f"{kind}.png")
        pictures.append(picture)
        whole = score(np.asarray(picture), meaning).agreement
        bands = "  ".join(
            f"{s.agreement:.3f} at ({s.phase[0]:.2f}, {s.phase[1]:.2f})" for s in shares(picture, meaning, args.ranks)
        )
        print(f"{kind:10} whole picture {whole:.3f}   each rank's band, best phase in periods: {bands}", flush=True)
    evaluate.contact_sheet(pictures, len(pictures)).save(args.out / "side_by_side.png")


if __name__ == "__main__":
    main()
