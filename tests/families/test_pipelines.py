"""Tiny pipelines of the families through the launcher's own path: request, rules, ranks, worker, pictures."""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import twins
from shared import LAPTOP
from warm import Warm

sys.path.insert(0, str(Path(__file__).parent))

import pipelines

from launcher.config.compose import Composer, to_config
from launcher.config.schema import LaunchConfig
from launcher.estimates.ways import resolve, resolved
from launcher.families.text import count_tokens
from launcher.offloading import IN_PIECES, UNFIT
from launcher.records.picture import read_frames
from launcher.request.request import Request
from launcher.rules import problems
from launcher.running.job import Made
from launcher.running.which_model import with_model

pytestmark = pytest.mark.slow

Families = Callable[[str], LaunchConfig]
Alone = Callable[..., np.ndarray]  # of a name and a height

SAMPLED = "FAMILY_SAMPLES" not in os.environ  # one way of each family; with it, all of them on each world
# Mode, ring, Ulysses; 50 x 40 is uneven for every family, 64 x 64 even for all that count their tokens.
WAYS = {
    2: [("ring", 2, 1, 64), ("ulysses", 1, 2, 64), ("ring_anything", 2, 1, 50), ("ulysses_anything", 1, 2, 50)],
    3: [("unified_anything", 3, 1, 50), ("ulysses_anything", 1, 3, 50)],
}
# What is refused before the start, by family: part of the reason.
REFUSED = {
    "chroma": {"ring_anything": "attention mask"},
    "hunyuan_video": {"ring_anything": "attention mask"},
    "zimage_turbo": {"ring": "can't be counted", "ulysses": "can't be counted"},
    "auraflow": {"ring": "can't be counted", "ulysses": "can't be counted"},
    "lumina2": {"ring": "can't be counted", "ulysses": "can't be counted"},
    "ltx2": {"ring": "can't be counted", "ulysses": "can't be counted"},
    "krea2": {
        "ring_anything": "attention mask",
        "ring": "can't be counted",
        "ulysses": "can't be counted",
    },
    "ideogram4": {"ring_anything": "attention mask", "ring": "can't be counted", "ulysses": "can't be counted"},
    "helios": {"ring": "can't be counted", "ulysses": "can't be counted"},
    "hunyuan_video_15": {
        "ring_anything": "attention mask",
        "ring": "1985 text tokens",
        "ulysses": "1985 text tokens",
    },
    "hunyuan_image_21": {"ring_anything": "attention mask"},
    "sd35_medium": {"ring": "101 text tokens", "ulysses": "101 text tokens"},
}


@pytest.fixture(scope="module")
def families(tmp_path_factory) -> Families:
    """Each family's configuration, its pipeline built when it is asked for."""
    folder = tmp_path_factory.mktemp("families")
    composer = Composer()
    always = ["output=png", "runtime=cpu", "runtime.timeout=30", "seed=1", "prompt=a blue cat"]

    def config(name: str) -> LaunchConfig:
        if name in twins.FACTS:
            words = [*twins.FACTS[name], f"model.path={twins.build(name, folder / name)}"]
        else:
            words = pipelines.words(name, pipelines.build(name, folder / name))
        steps = [] if any(word.startswith("steps=") for word in words) else ["steps=2"]
        return to_config(with_model(composer.compose([*words, *steps, *always]), composer))

    return functools.cache(config)


def asked(config: LaunchConfig, mode: str, ring: int, ulysses: int, height: int) -> Request:
    config = copy.deepcopy(config)
    config.height, config.width = height, 64 if height == 64 else 40
    if config.model.frames_per_latent:
        config.frames = 5
    config.cp.mode = mode
    if mode != "none":
        config.cp.ring_degree, config.cp.ulysses_degree = ring, ulysses
    return resolve(config, LAPTOP)


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Iterator[Warm]:
    group = Warm(tmp_path_factory.mktemp("alone"))
    yield group
    group.close()


@pytest.fixture(scope="module")
def alone(families, single) -> Alone:
    """What one process makes, once it is asked for."""

    def made(name: str, height: int = 50) -> np.ndarray:
        if name == "unipc":
            return single.run(other_scheduler(families))[0]
        if name == "sound":
            film = asked(families("ltx2"), "none", 1, 1, height)
            film.config.output.format = "mp4"
            return sound(single.make(film))
        return single.run(asked(families(name), "none", 1, 1, height))[0]

    return functools.cache(made)


def other_scheduler(families: Families, mode: str = "none", ring: int = 1, ulysses: int = 1) -> Request:
    request = asked(families("zimage_turbo"), mode, ring, ulysses, 50)
    request.config.scheduler.name, request.config.scheduler.shift = "unipc", 5.0
    assert problems(request) == []
    return request


def sound(made: Made) -> np.ndarray:
    """What is heard in a film (channels, samples)."""
    with av.open(made.folder / made.record.files[0].file) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert container.streams.video[0].frames == 5
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


@pytest.fixture(scope="module", params=list(WAYS))
def warm(request, tmp_path_factory) -> Iterator[tuple[int, Warm]]:
    group = Warm(tmp_path_factory.mktemp("warm"))
    yield request.param, group
    group.close()


def test_sound_is_made_by_all_ranks_too(warm, families, alone):
    world, group = warm
    request = asked(families("ltx2"), "ulysses_anything", 1, world, 50)
    request.config.output.format = "mp4"
    heard, expected = sound(group.make(request)), alone("sound")
    assert heard.shape == expected.shape == (2, heard.shape[1])
    assert abs(heard.shape[1] - 16000 * 5 / 24) < 2048  # a block of AAC more or less
    assert expected.std() > 1e-3
    assert np.abs(heard - expected).max() < 1e-2


def test_another_scheduler_is_as_exact_and_gone_afterwards(warm, families, alone):
    world, group = warm
    (shown,) = group.run(other_scheduler(families, "unified_anything", world, 1))
    assert np.abs(shown - alone("unipc")).max() <= 1
    assert np.abs(shown - alone("zimage_turbo")).max() > 10
    (own,) = group.run(asked(families("zimage_turbo"), "unified_anything", world, 1, 50))
    assert np.abs(own - alone("zimage_turbo")).max() <= 1


HALVES = ("sd35_medium", "wan22_t2v_a14b", "lumina2", "cosmos_t2w_7b")  # branches in one call and in two, films too


@pytest.mark.parametrize("name", list(pipelines.PIPELINES))
def test_two_halves_compute_a_branch_of_guidance_each(warm, families, alone, name):
    world, group = warm
    if SAMPLED and name not in HALVES:
        return
    request = asked(families(name), "none", 1, 1, 50)
    if world != 2 or request.negative_prompt is None or request.config.model.guidance_branches is None:
        return
    config = copy.deepcopy(request.config)
    config.cp.cfg_degree = 2
    request = resolve(config, LAPTOP)
    assert problems(request) == []
    (shown,) = group.run(request)
    assert np.abs(shown - alone(name)).max() <= 1


@pytest.mark.parametrize("name", list(pipelines.PIPELINES))
def test_ranks_make_what_one_process_makes(warm, families, alone, name):
    world, group = warm
    legal = [way for ways in WAYS.values() for way in ways if way[0] not in REFUSED.get(name, {})]
    drawn = random.Random(name).choice(legal)
    for mode, ring, ulysses, height in WAYS[world]:
        request = asked(families(name), mode, ring, ulysses, height)
        said = " ".join(str(problem) for problem in problems(request))
        expected = REFUSED.get(name, {}).get(mode)
        if expected is not None:
            assert expected in said
            continue
        assert not said, (mode, said)
        if SAMPLED and (mode, ring, ulysses, height) != drawn:
            continue
        (shown,) = group.run(request)
        assert shown.std() > 1
        assert np.abs(shown - alone(name, height)).max() <= 1, (mode, ring, ulysses)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory) -> Iterator[Warm]:
    """Two ranks whose weights wait as on a GPU."""
    group = Warm(tmp_path_factory.mktemp("waiting"), "waiting")
    yield group
    group.close()


@pytest.mark.skipif(SAMPLED, reason="what is tested here changes with diffusers alone")
@pytest.mark.parametrize("how", IN_PIECES)
@pytest.mark.parametrize("name", [*twins.FACTS, *pipelines.PIPELINES])
def test_all_parts_come_in_pieces(waiting, families, alone, name, how):
    """Encoders and VAEs of every family too; no rule is asked, which would say that this needs a GPU."""
    request = asked(families(name), "ulysses_anything", 1, 2, 50)
    if request.config.model.pipeline in UNFIT:
        return
    runtime = dataclasses.replace(request.config.runtime, offload=how)
    config = dataclasses.replace(request.config, runtime=runtime)
    (shown,) = waiting.run(dataclasses.replace(request, config=config))
    assert np.abs(shown - alone(name)).max() <= 1


# Those whose calls draw several pictures; all of them take five minutes.
SEVERAL = ["qwenimage", "ltx2"] if os.environ.get("BATCHES") != "all" else ["qwenimage", *pipelines.PIPELINES]


def together(config: LaunchConfig, mode: str, world: int, batch: int = 2) -> Request:
    """Three pictures of unequal prompts, two in a call and one alone."""
    config = copy.deepcopy(config)
    config.prompt, config.batch = None, batch
    request = asked(config, mode, *((world, 1) if mode == "ring_anything" else (1, world)), 50)
    prompts = ("a blue cat", "a red dog that sits on a green hill far away, by night", "a pot")
    counted = count_tokens(request.config.model, prompts)
    inputs = dataclasses.replace(request.inputs, prompts=prompts, tokens=tuple(counted))
    return resolved(request.config, inputs, LAPTOP)


@pytest.fixture(scope="module")
def one_by_one(families, single) -> Callable[[str], list[np.ndarray]]:
    """What a call for each picture makes on one rank; a call for two makes the same there."""

    def made(name: str) -> list[np.ndarray]:
        found = single.run(together(families(name), "none", 1, batch=1))
        assert close(single.run(together(families(name), "none", 1)), found)
        return found

    return functools.cache(made)


def close(shown: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    assert len(shown) == len(expected) == 3
    assert min(np.abs(expected[0] - other).max() for other in expected[1:]) > 10
    return all(np.abs(one - two).max() <= 1 for one, two in zip(shown, expected, strict=True))


@pytest.mark.parametrize("name", SEVERAL)
def test_each_picture_of_a_call_is_as_it_is_alone(warm, families, one_by_one, name):
    world, group = warm
    if families(name).model.batch not in ("any", "masked"):
        assert "batch=2" in str(problems(together(families(name), "none", 1)))
        return
    for mode in ("ulysses_anything", "ring_anything", "unified_anything"):
        request = together(families(name), mode, world)
        if found := problems(request):
            assert request.masked
            assert mode == "ring_anything"
            assert "not equally long" in found[0].rule or "always uses one" in found[0].rule
            continue
        made = group.make(request)
        shown = [read_frames(made.folder / file.file, made.record.frames.fps) for file in made.record.files]
        shown = [np.stack([np.asarray(frame) for frame in frames]).astype(int) for frames in shown]
        assert close(shown, one_by_one(name)), mode
        assert [len(request.calls), len(made.record.step_seconds)] == [2, 2]
    request = together(families(name), "none", 1)
    if world == 2 and request.negative_prompt is not None and request.config.model.guidance_branches is not None:
        request.config.cp.cfg_degree = 2
        assert close(group.run(resolved(request.config, request.inputs, LAPTOP)), one_by_one(name))
