"""Families' tiny pipelines through the launcher: what one and two ranks on one GPU make, beside what a CPU makes.

python twins_on_card.py FOLDER NAME[:TASK] ...      # a line of JSON for each
"""

from __future__ import annotations

import copy
import json
import sys
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "families")]

# ruff: noqa: E402  (the helpers are found by path)
import numpy as np
import pipelines
import twins
from PIL import Image
from warm import Warm

from launcher import machines
from launcher.config.compose import Composer, to_config
from launcher.config.schema import LaunchConfig
from launcher.estimates.ways import resolve
from launcher.families.tasks import tasks
from launcher.records.run_dir import RunDir
from launcher.request.request import Request
from launcher.rules import problems
from launcher.running.job import Crew, Made, execute

ALWAYS = ["output=png", "runtime.dtype=float32", "seed=1", "prompt=a blue cat"]
ALWAYS += ["runtime.timeout=60", "runtime.stall_timeout=60"]
# Mode, its ring and Ulysses degrees, offload; one rank comes first.
WAYS = {
    "1 rank": ("none", 1, 1, "none"),
    "1 rank, by blocks": ("none", 1, 1, "group"),
    "2 ranks, ring": ("unified_anything", 2, 1, "none"),
    "2 ranks, Ulysses": ("ulysses_anything", 1, 2, "none"),
}


class Drawing(Warm):
    """Records are held against their schema elsewhere, by a package that a machine with a GPU may not have."""

    def make(self, request: Request) -> Made:
        return execute([Crew(request, self.ranks)], RunDir(self.folder / str(next(self.count))), [])


def built(name: str, folder: Path, composer: Composer) -> LaunchConfig:
    """A family's configuration, its tiny pipeline built in `folder`."""
    if name == "flux_tiny":
        words: list[str] = []
    elif name in twins.FACTS:
        words = [*twins.FACTS[name], f"model.path={twins.build(name, folder / name)}"]
    else:
        words = pipelines.words(name, pipelines.build(name, folder / name))
    steps = [] if any(word.startswith("steps=") for word in words) else ["steps=2"]
    return to_config(composer.compose([*words, *steps, *ALWAYS]))


def pictures(folder: Path) -> dict[str, str]:
    """A picture with a gradient, the same upside down, and a mask."""
    y, x = np.mgrid[:64, :96]
    first = np.stack([x * 2, y * 4, (x // 9 % 2) * 255], -1).astype("uint8")
    made = {"image": first, "last_image": first[::-1], "mask_image": np.where(x > 45, 255, 0).astype("uint8")}
    for name, pixels in made.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return {name: str(folder / f"{name}.png") for name in made}


def asked(config: LaunchConfig, task: str, files: dict[str, str], way: str, machine: machines.Machine) -> Request:
    """An uneven size, of few frames; way: "the CPU" or one of WAYS."""
    config = copy.deepcopy(config)
    config.height, config.width = 50, 40
    if config.model.frames_per_latent:
        config.frames = 5
    for setting in tasks(config.model)[task].needs if task else ():
        setattr(config, setting, files[setting])
    config.cp.mode, ring, ulysses, config.runtime.offload = WAYS.get(way, WAYS["1 rank"])
    config.runtime.device = "cpu" if way == "the CPU" else "cuda"
    if config.cp.mode != "none":
        config.cp.ring_degree, config.cp.ulysses_degree, config.cp.transport = ring, ulysses, "host"
    return resolve(config, machine)


def compared(name: str, groups: dict[str, Warm], folder: Path, composer: Composer) -> dict[str, Any]:
    """By way: (most, mean) levels apart, one rank's from the CPU's and the others' from one rank's; or why not."""
    name, _, task = name.partition(":")
    machine, files = machines.here(), pictures(folder)
    config = built(name, folder, composer)
    like = groups["cpu"].run(asked(config, task, files, "the CPU", machine))[0]
    assert like.std() > 1
    found: dict[str, Any] = {}
    for way, (_, ring, ulysses, _) in WAYS.items():
        request = asked(config, task, files, way, machine)
        if wrong := problems(request):
            found[way] = str(wrong[0])
            continue
        shown = groups[str(ring * ulysses)].run(request)[0]
        apart = np.abs(shown - like)
        found[way] = [int(apart.max()), float(apart.mean())]
        like = shown if way == "1 rank" else like
    return found


def main(folder: Path, names: list[str]) -> None:
    groups = {which: Drawing(folder / which) for which in ("cpu", "1", "2")}
    composer = Composer()
    try:
        for name in names:
            place = folder / name.replace(":", "_")
            place.mkdir()
            try:
                found = compared(name, groups, place, composer)
            except Exception:
                found = {"failed": traceback.format_exc()[-1500:]}
            print(json.dumps({name: found}), flush=True)
    finally:
        for group in groups.values():
            group.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
