"""Measure the shipped weights: python -m launcher.flux_tiny.evaluate [--sample N] [--folder PIPELINE] [--out DIR]

Draws the pictures of the model card, scores each and prints a table. Everything takes hours on two cores; --sample N
draws N random pictures of each set instead, the same ones each time.
"""

import argparse
import itertools
import json
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxPipeline
from PIL import Image

from launcher.flux_tiny import model
from launcher.flux_tiny.score import Score, score
from launcher.flux_tiny.vocabulary import Meaning, every_meaning


@dataclass(frozen=True)
class Job:
    """One picture to draw; sizes in pixels."""

    meaning: Meaning
    height: int
    width: int
    steps: int
    seed: int


def sets() -> dict[str, list[Job]]:
    """The pictures by which the model is judged."""
    everything = every_meaning()
    spread = random.Random(0).sample(everything, 24)
    return {
        "512x512, 12 steps": [Job(m, 512, 512, 12, s) for m, s in itertools.product(everything, range(3))],
        "256x256, 12 steps": [Job(m, 256, 256, 12, s) for m, s in itertools.product(everything, range(3))],
        "1000x1024, 16 steps": [Job(m, 1000, 1024, 16, 0) for m in spread],
        "1008x1008, 16 steps": [Job(m, 1008, 1008, 16, 0) for m in spread],
    }


def load(folder: Path = model.FOLDER) -> FluxPipeline:
    pipe = FluxPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: FluxPipeline, job: Job) -> Image.Image:
    """Render at the next size that the model takes, crop to the size asked for."""
    height, width = (-(-side // 16) * 16 for side in (job.height, job.width))
    picture = pipe(
        job.meaning.prompt(),
        height=height,
        width=width,
        num_inference_steps=job.steps,
        generator=torch.Generator().manual_seed(job.seed),
    ).images[0]
    return picture.crop((0, 0, job.width, job.height))


def contact_sheet(pictures: list[Image.Image], columns: int, gap: int = 8) -> Image.Image:
    """Pictures of one size, side by side on grey."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), (128, 128, 128))
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * (width + gap), i // columns * (height + gap)))
    return sheet


def summary(scores: list[Score]) -> dict[str, float]:
    agreements = np.array([s.agreement for s in scores])
    return {
        "pictures": len(scores),
        "mean": float(agreements.mean()),
        "above 0.9": float((agreements > 0.9).mean()),
        "worst": float(agreements.min()),
        "colours right": float(np.mean([s.colours_right for s in scores])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m launcher.flux_tiny.evaluate", description=__doc__)
    parser.add_argument("--sample", type=int, help="random pictures of each set instead of all")
    parser.add_argument("--only", default="", help="the sets whose name starts so, as 512x512")
    parser.add_argument("--folder", type=Path, default=model.FOLDER, help="a FluxPipeline folder")
    parser.add_argument("--out", type=Path, default=Path("outputs/flux_tiny_evaluation"), help="sheets and figures")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pipe = load(args.folder)
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name, jobs in sets().items():
        if not name.startswith(args.only):
            continue
        if args.sample and args.sample < len(jobs):
            jobs = random.Random(1).sample(jobs, args.sample)
        groups: dict[str, list[Score]] = defaultdict(list)
        pictures: list[Image.Image] = []
        for job in jobs:
            picture = draw(pipe, job)
            found = score(np.asarray(picture), job.meaning)
            for group in ("all", job.meaning.pattern, job.meaning.scale):
                groups[group].append(found)
            if len(pictures) < 24:
                pictures.append(picture)
        contact_sheet(pictures, 4).save(args.out / f"{name.split(',')[0]}.png")
        figures[name] = {group: summary(found) for group, found in groups.items()}
        for group, row in figures[name].items():
            print(f"{name}  {group:20}" + "".join(f"  {k} {v:.3f}" for k, v in row.items()), flush=True)
    (args.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
