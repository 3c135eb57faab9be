"""What the rules say of a scheduler is what diffusers' pipelines do with it, family by family, on tiny ones."""

from __future__ import annotations

import sys
from pathlib import Path

import diffusers
import pytest
import torch
from shared import LAPTOP

sys.path.insert(0, str(Path(__file__).parent))

import pipelines

from launcher.config.compose import Composer, to_config
from launcher.estimates.ways import resolve
from launcher.families.call import arguments
from launcher.rules.schedulers import scheduler as rule
from launcher.schedulers import SOLVERS, Wish
from launcher.worker.schedulers import scheduler

pytestmark = pytest.mark.slow

WISHES = [
    *map(Wish, SOLVERS),
    Wish("auto", 5.0),
    Wish("unipc", 5.0),
    Wish("dpmpp_2m", 5.0),
    Wish("euler", None, "karras"),
]
# Those whose pipelines do five different things with their scheduler; `python tests/families/test_schedulers.py`
# tries all, a minute and a half.
SAMPLE = ("sd35_medium", "zimage_turbo", "cogvideox_5b", "helios", "skyreels_v2_df_1_3b")


def disagreements(name: str, folder: Path) -> list[str]:
    """Where a family's pipeline runs what is refused, or fails with what is not."""
    words = [*pipelines.words(name, pipelines.build(name, folder)), "steps=3", "runtime=cpu", "seed=1", "height=64"]
    config = to_config(Composer().compose([*words, "width=64", "prompt=a blue cat"]))
    config.frames = 5 if config.model.frames_per_latent else None
    pipe = getattr(diffusers, config.model.pipeline).from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    own, found = pipe.scheduler, []
    for wish in WISHES:
        config.scheduler.name, config.scheduler.shift, config.scheduler.sigmas = wish.name, wish.shift, wish.sigmas
        request = resolve(config, LAPTOP)
        told = "; ".join(map(str, rule(request)))
        size = request.rendered
        try:
            pipe.scheduler = scheduler(own, wish)
            call = arguments(config, size.height, size.width, request.rendered_frames)
            noise = torch.Generator().manual_seed(0)
            drawn = pipe(**call, prompt="a cat", generator=noise, output_type="latent")[0]
            ran = "" if torch.as_tensor(drawn).isfinite().all() else "not finite"
        except (ValueError, TypeError, AssertionError, AttributeError) as error:
            ran = f"{type(error).__name__}: {error}"
        if bool(told) != bool(ran) and not (told and "shifts the sigmas" in told):  # which a scheduler would pass over
            found.append(f"{name}, {wish}: {told or 'legal'}, and {ran or 'it runs'}")
    return found


@pytest.mark.parametrize("name", SAMPLE)
def test_rules_say_what_pipelines_do(name, tmp_path):
    assert disagreements(name, tmp_path) == []


if __name__ == "__main__":
    import tempfile

    for each in pipelines.PIPELINES:
        with tempfile.TemporaryDirectory() as place:
            print(each, *disagreements(each, Path(place)), sep="\n  ")
