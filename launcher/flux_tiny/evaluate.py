"""Measure the shipped weights: python -m launcher.flux_tiny.evaluate [--sample N] [--only SET] [--folder PIPELINE]

Draws the pictures of the model card, scores each and prints a table; DIR gets that as figures.json, a line for each
picture in scores.csv, and sheets of twelve random and of the twelve worst pictures of each set. Everything takes about
an hour on two cores; --sample N draws N random pictures of each set instead, the same ones each time.
"""

import argparse
import csv
import itertools
import json
import multiprocessing
import os
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxPipeline
from PIL import Image
from tqdm import tqdm

from launcher.flux_tiny import model
from launcher.flux_tiny.captions import caption
from launcher.flux_tiny.score import Score, score
from launcher.flux_tiny.vocabulary import Meaning, every_meaning, read


@dataclass(frozen=True)
class Job:
    """One picture to draw; sizes in pixels, words: other ones than the plainest."""

    meaning: Meaning
    height: int
    width: int
    steps: int
    seed: int
    words: str | None = None

    @property
    def prompt(self) -> str:
        return self.meaning.prompt() if self.words is None else self.words


def sets() -> dict[str, list[Job]]:
    """The pictures by which the model is judged."""
    everything = every_meaning()
    spread = random.Random(0).sample(everything, 24)
    rng = random.Random(4)  # not the seed of the captions that the model was trained on
    captions = [caption(rng.choice(everything), rng) for _ in range(96)]
    return {
        "512x512, 12 steps": [Job(m, 512, 512, 12, s) for m, s in itertools.product(everything, range(3))],
        "256x256, 12 steps": [Job(m, 256, 256, 12, s) for m, s in itertools.product(everything, range(3))],
        "1000x1024, 16 steps": [Job(m, 1000, 1024, 16, 0) for m in spread],
        "1008x1008, 16 steps": [Job(m, 1008, 1008, 16, 0) for m in spread],
        "256x256 in any words, 12 steps": [Job(read(text), 256, 256, 12, 0, text) for text in captions],
    }


@cache
def load(folder: Path) -> FluxPipeline:
    """The pipeline of a folder; one folder is loaded once."""
    pipe = FluxPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: FluxPipeline, job: Job) -> Image.Image:
    """Render at the next size that the model takes, crop to the size asked for."""
    height, width = (-(-side // 16) * 16 for side in (job.height, job.width))
    picture: Image.Image = pipe(
        job.prompt,
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


def measure(jobs: list[Job], folder: Path = model.FOLDER, processes: int = 1) -> Iterator[tuple[Job, Score]]:
    """Draw and score in `processes` processes of one thread each, which two cores like better than two threads."""
    if processes == 1:
        yield from map(_measure, ((folder, job) for job in jobs))
        return
    with multiprocessing.get_context("spawn").Pool(processes, torch.set_num_threads, (1,)) as pool:
        yield from pool.imap(_measure, [(folder, job) for job in jobs])


def _measure(what: tuple[Path, Job]) -> tuple[Job, Score]:
    folder, job = what
    return job, score(np.asarray(draw(load(folder), job)), job.meaning)


def sample(jobs: list[Job], count: int | None) -> list[Job]:
    """`count` of them at random, the same ones each time; None takes all."""
    return jobs if count is None or count >= len(jobs) else random.Random(1).sample(jobs, count)


def summary(scores: list[Score]) -> dict[str, float]:
    agreements = np.array([s.agreement for s in scores])
    return {
        "pictures": len(scores),
        "mean": float(agreements.mean()),
        "above 0.9": float((agreements > 0.9).mean()),
        "worst": float(agreements.min()),
        "colours right": float(np.mean([s.colours_right for s in scores])),
    }


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} must be a whole number from 1")
    return int(word)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m launcher.flux_tiny.evaluate", description=__doc__)
    parser.add_argument("--sample", type=_count, metavar="N", help="random pictures of each set instead of all")
    parser.add_argument("--only", choices=[name.split(",")[0] for name in sets()], help="this set of pictures alone")
    parser.add_argument("--folder", type=Path, default=model.FOLDER, help="a FluxPipeline folder")
    parser.add_argument("--out", type=Path, default=Path("outputs/flux_tiny_evaluation"), help="DIR")
    parser.add_argument("--processes", type=_count, default=os.cpu_count(), help="that draw, with one thread each")
    args = parser.parse_args()
    if not (args.folder / "model_index.json").is_file():
        parser.error(f"--folder {args.folder}: is no diffusers pipeline, for it has no model_index.json; leave it out")
    args.out.mkdir(parents=True, exist_ok=True)
    figures: dict[str, dict[str, dict[str, float]]] = {}
    with (args.out / "scores.csv").open("w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("set", "prompt", "seed", "agreement", "colours right"))
        for name, jobs in sets().items():
            size = name.split(",")[0]
            if args.only not in (None, size):
                continue
            jobs = sample(jobs, args.sample)
            scored = []
            for job, found in tqdm(measure(jobs, args.folder, args.processes), name, total=len(jobs), unit="picture"):
                scored.append((job, found))
                table.writerow((size, job.prompt, job.seed, f"{found.agreement:.4f}", found.colours_right))
                file.flush()
            groups: dict[str, list[Score]] = defaultdict(list)
            for job, found in scored:
                for group in ("all", job.meaning.pattern, job.meaning.scale):
                    groups[group].append(found)
            figures[name] = {group: summary(found) for group, found in groups.items()}
            for group, row in figures[name].items():
                print(f"{name}  {group:20}" + "".join(f"  {k} {v:.3f}" for k, v in row.items()), flush=True)
            worst = [job for job, _ in sorted(scored, key=lambda pair: pair[1].agreement)[:12]]
            for sheet, shown in ((size, sample(jobs, 12)), (f"{size}_worst", worst)):
                contact_sheet([draw(load(args.folder), job) for job in shown], 4).save(
                    args.out / f"{sheet.replace(' ', '_')}.png"
                )
    (args.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
