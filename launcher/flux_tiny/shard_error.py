"""What a broken shard looks like: python -m launcher.flux_tiny.shard_error [--ranks 3] [--out DIR]

Draws one picture five times from the same noise. First with real ranks of the launcher, which must make it equal:

    1 rank     cp=none
    3 ranks    cp=ring_anything, its tokens shared by three processes

Then as ranks would that share its tokens, one process standing in for them and slicing what they would hold:

    exact      attention over all tokens, true positions
    local      each rank attends only to its own slice of text and image
    restarted  attention over all tokens, but each rank numbers its slice's positions from the canvas's top again

Only the noise says where a pattern lies, and all tokens must agree about it: a broken shard breaks the pattern's phase
at the seam.
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

import launcher
from launcher.flux_tiny import evaluate, model
from launcher.flux_tiny.score import Score, score
from launcher.flux_tiny.vocabulary import Meaning, read
from launcher.problems import LauncherError

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
        noise: tuple[Tensor] = whole(**{**arguments, "img_ids": again})
        return noise

    pipe.transformer.forward = {"exact": whole, "local": local, "restarted": restarted}[kind]
    try:
        picture: Image.Image = pipe(
            prompt,
            height=size,
            width=size,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        return picture
    finally:
        pipe.transformer.forward = whole


def draw_with_ranks(counts: list[int], prompt: str, size: int, steps: int, seed: int, out: Path) -> list[Image.Image]:
    """The same picture by the launcher, with each number of ranks; the runs' folders go to `out`."""
    with launcher.Pool("model=flux_tiny", "runtime=cpu", f"output.dir={out}") as pool:
        modes = (["cp=none"] if n == 1 else ["cp=ring_anything", f"cp.ring_degree={n}"] for n in counts)
        request = {"prompt": prompt, "height": size, "width": size, "steps": steps, "seed": seed}
        return [pool.run(*words, **request).images[0] for words in modes]


def difference(one: Image.Image, other: Image.Image) -> int:
    """The most that any pixel's red, green or blue differs, of 255."""
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other)).max())


def shares(picture: Image.Image, meaning: Meaning, ranks: int) -> list[Score]:
    """The score of each rank's band of whole token rows, with phases relative to the whole picture."""
    pixels = np.asarray(picture)
    seams = [16 * (r * (len(pixels) // 16) // ranks) for r in range(ranks + 1)]
    return [score(pixels[a:b], meaning, origin=(a, 0)) for a, b in pairwise(seams)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m launcher.flux_tiny.shard_error", description=__doc__)
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--ranks", type=int, default=3)
    parser.add_argument("--size", type=int, default=384, help="pixels, a multiple of 16 times the ranks")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("outputs/flux_tiny_shard_error"), help="pictures go here")
    args = parser.parse_args()
    if args.ranks < 2:
        parser.error(f"--ranks {args.ranks}: a picture that is shared has 2 ranks or more")
    if args.size % (16 * args.ranks):
        step = 16 * args.ranks
        low = max(step, args.size // step * step)
        parser.error(f"--size {args.size}: {args.ranks} equal bands need a multiple of {step}: {low} or {low + step}")
    args.out.mkdir(parents=True, exist_ok=True)
    request = (args.prompt, args.size, args.steps, args.seed)
    try:
        one, shared = draw_with_ranks([1, args.ranks], *request, args.out)
    except LauncherError as error:
        parser.error(str(error))
    pictures = {"1 rank": one, f"{args.ranks} ranks": shared}
    pipe = evaluate.load(model.FOLDER)
    pictures |= {kind: draw(pipe, kind, args.ranks, *request) for kind in KINDS}
    meaning = read(args.prompt)
    for name, picture in pictures.items():
        picture.save(args.out / f"{name.replace(' ', '_')}.png")
        whole = score(np.asarray(picture), meaning).agreement
        bands = "  ".join(
            f"{s.agreement:.3f} at ({s.phase[0]:.2f}, {s.phase[1]:.2f})" for s in shares(picture, meaning, args.ranks)
        )
        off = difference(picture, pictures["1 rank"])
        print(f"{name:10} score {whole:.3f}  off 1 rank's by {off:3} of 255  bands, best phase in periods: {bands}")
    evaluate.contact_sheet(list(pictures.values()), len(pictures)).save(args.out / "side_by_side.png")


if __name__ == "__main__":
    main()
