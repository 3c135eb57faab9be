"""Every family on tiny twins: every legal mode makes what one process makes, and whatever the rules let pass runs."""

from __future__ import annotations

import copy
import functools
import itertools
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import twins
from shared import LAPTOP
from warm import Warm

sys.path.append(str(Path(__file__).parent.parent / "families"))

import pipelines

from attention_backends.catalog import KERNELS, MODES, SCHEDULES
from launcher.config.compose import Composer, to_config
from launcher.config.schema import LaunchConfig
from launcher.estimates.ways import resolve
from launcher.request.request import Request
from launcher.rules import RULES, problems
from launcher.rules import kernels as kernel_rules
from launcher.rules import sharing as sharing_rules

pytestmark = pytest.mark.slow

SAMPLES = int(os.environ.get("FAMILY_SAMPLES", "60"))  # random legal requests, over all worlds
SAMPLED = "FAMILY_SAMPLES" not in os.environ  # one size of each way; with it, all sizes
WORLDS = (3, 4) if SAMPLED else (2, 3, 4)  # every mode is legal on one of the first two
PARALLEL = [mode.name for mode in MODES.values() if mode.parallel]
# Two sizes that no even split divides, and one that the even modes take. Pictures have no frames.
SIZES = [
    {"height": 50, "width": 40, "frames": 6},
    {"height": 20, "width": 33, "frames": 2},
    {"height": 64, "width": 96, "frames": 9},
]
# QwenImage's text is as long as its prompts: 6 letters and 6 more, then 7 and 5 more, both divisible.
PROMPTS = [("a cat", "blurry"), ("猫 🐈", ""), ("cat cat", "dog dog")]
UNGUIDED = -1  # in place of a size's number: the first size without guidance


@pytest.fixture(scope="module")
def families(tmp_path_factory) -> dict[str, LaunchConfig]:
    """A configuration for each family's twin, and the bundled model's."""
    composer, folder = Composer(), tmp_path_factory.mktemp("twins")
    # Where only some ranks fail, the others wait for them as long as `timeout`.
    always = ["output=png", "runtime=cpu", "runtime.timeout=6", "seed=1", "steps=2"]
    found = {"flux_tiny": to_config(composer.compose(always))}
    for name, facts in twins.FACTS.items():
        path = twins.build(name, folder / name)
        found[name] = to_config(composer.compose([*facts, f"model.path={path}", *always]))
    return found


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> LaunchConfig:
    """Of a family that is in no list: a model file in a folder of one's own, and nothing else."""
    folder = tmp_path_factory.mktemp("own")
    words = [f"model={pipelines.OWN}", f"model.path={pipelines.build(pipelines.OWN, folder / 'pipeline')}"]
    composer = Composer(str(pipelines.own_files(folder / "conf")))
    composer.check_words(words, sweep=False)
    return to_config(composer.compose([*words, "output=png", "runtime=cpu", "runtime.timeout=30", "seed=1"]))


@pytest.fixture(scope="module")
def alone(families, own, tmp_path_factory) -> dict[tuple[str, int], np.ndarray]:
    """What one process makes."""
    single = Warm(tmp_path_factory.mktemp("alone"))
    found = {
        (name, number): single.run(sized(families[name], number, "none"))[0]
        for name in twins.FACTS
        for number in range(len(SIZES))
    }
    found |= {(pipelines.OWN, number): single.run(sized(own, number, "none"))[0] for number in (0, 2)}
    found |= {(name, UNGUIDED): single.run(unguided(families[name], "none"))[0] for name in twins.FACTS}
    single.close()
    return found


@pytest.fixture(scope="module", params=WORLDS)
def warm(request, tmp_path_factory) -> Iterator[tuple[int, Warm]]:
    group = Warm(tmp_path_factory.mktemp("warm"))
    yield request.param, group
    group.close()


def sized(config: LaunchConfig, number: int, mode: str, ring: int | None = None, ulysses: int | None = None) -> Request:
    config = copy.deepcopy(config)
    config.height, config.width = SIZES[number]["height"], SIZES[number]["width"]
    if config.model.frames_per_latent:
        config.frames = SIZES[number]["frames"]
    config.prompt, config.negative_prompt = PROMPTS[number]
    config.cp.mode, config.cp.ring_degree, config.cp.ulysses_degree = mode, ring, ulysses
    return resolve(config, LAPTOP)


def degrees(world: int) -> list[tuple[int, int]]:
    return [(ring, world // ring) for ring in range(1, world + 1) if world % ring == 0]


@pytest.mark.parametrize("name", list(twins.FACTS))
def test_every_legal_mode_makes_what_one_process_makes(warm, families, alone, name):
    world, group = warm
    ran = set()
    for mode, (ring, ulysses) in itertools.product(PARALLEL, degrees(world)):
        ways = {number: sized(families[name], number, mode, ring, ulysses) for number in range(len(SIZES))}
        legal = [number for number, asked in ways.items() if not problems(asked)]
        for number in random.Random(f"{name} {world} {mode} {ring}").sample(legal, 1) if SAMPLED and legal else legal:
            (shown,) = group.run(asked := ways[number])
            assert shown.shape[:3] == (asked.frames or 1, asked.requested.height, asked.requested.width)
            assert np.abs(shown - alone[name, number]).max() <= 1, (mode, ring, ulysses, number)
            ran.add(mode)
    # 6 heads are not shared by 4 ranks, and two degrees of 2 or more need 4.
    assert ran == set(PARALLEL) - ({"ulysses"} if world == 4 else {"unified", "attention2d"})


OWN_WAYS = {
    2: [("ring", 2, 1, 2), ("ulysses", 1, 2, 2)],
    3: [("ring_anything", 3, 1, 0), ("ulysses_anything", 1, 3, 0), ("unified_anything", 3, 1, 0)],
    4: [("unified", 2, 2, 2), ("attention2d", 2, 2, 0)],
}


def test_a_family_in_no_list_is_a_model_file_alone(warm, own, alone):
    world, group = warm
    for mode, ring, ulysses, number in OWN_WAYS[world]:
        request = sized(own, number, mode, ring, ulysses)
        assert (problems(request), request.mesh.ranks) == ([], world)
        (shown,) = group.run(request)
        assert shown.std() > 1
        assert np.abs(shown - alone[pipelines.OWN, number]).max() <= 1, mode
    assert {mode for ways in OWN_WAYS.values() for mode, *_ in ways} == set(PARALLEL)


def unguided(config: LaunchConfig, mode: str, world: int | None = None) -> Request:
    """The first size without classifier-free guidance."""
    request = sized(config, 0, mode, world, 1 if world else None)
    config = copy.deepcopy(request.config)
    config.negative_prompt, config.model.true_cfg = None, 1.0
    config.guidance = 1.0 if config.model.guidance_cfg else config.guidance
    request = resolve(config, LAPTOP)
    assert request.passes == 1
    return request


@pytest.mark.parametrize("name", list(twins.FACTS))
def test_without_guidance_too_ranks_make_what_one_process_makes(warm, families, alone, name):
    world, group = warm
    (shown,) = group.run(unguided(families[name], "unified_anything", world))
    assert np.abs(shown - alone[name, UNGUIDED]).max() <= 1
    assert np.abs(shown - alone[name, 0]).max() > 1  # guidance is another picture


@pytest.mark.parametrize("name", list(twins.FACTS))
def test_halves_of_guidance_make_what_one_process_makes(warm, families, alone, name):
    world, group = warm
    if world % 2:
        return
    number = 0
    for mode, ring, ulysses in (("none", 1, 1), ("ring_anything", world // 2, 1), ("ulysses_anything", 1, world // 2)):
        if (mode == "none") != (world == 2):
            continue
        config = copy.deepcopy(families[name])
        config.cp.cfg_degree = 2
        request = sized(config, number, mode, *((None, None) if mode == "none" else (ring, ulysses)))
        assert (problems(request), request.mesh.ranks) == ([], world)
        (shown,) = group.run(request)
        assert np.abs(shown - alone[name, number]).max() <= 1, mode


ON_CPU = [kernel.name for kernel in KERNELS.values() if "cpu" in kernel.devices]


def draw(chance: random.Random, families: dict[str, LaunchConfig], world: int, kernels: list[str]) -> Request:
    """A random request for `world` ranks."""
    config = copy.deepcopy(families[chance.choice(list(families))])
    model = config.model
    ring, ulysses = chance.choice(degrees(world))
    config.cp.mode, config.cp.ring_degree, config.cp.ulysses_degree = chance.choice(PARALLEL), ring, ulysses
    config.cp.schedule = chance.choice(SCHEDULES)
    config.attention.kernel = chance.choice(kernels)
    config.runtime.dtype = chance.choice(["float32", "float32", "bfloat16"])
    config.height, config.width = chance.choice([1, 16, 48]), chance.randint(1, 64)
    config.steps, config.seed, config.images = 1, chance.choice([0, 2**63 - 4]), chance.choice([1, 1, 2])
    config.model.text_tokens = chance.choice([1, 2, 3, 5, 24, model.text_tokens])
    config.prompt = "".join(chance.choices("abc ,猫🐈\n{}<|>'\"", k=chance.randint(0, 12)))
    config.output.format = chance.choice(["png", "webp", "jpeg", "mp4", "auto"])
    if model.frames_per_latent:
        config.frames, config.fps = chance.randint(1, 9), chance.choice([1, 24, 1000])
    if model.guidance_cfg:
        config.guidance = chance.choice([0.0, 1.0, 3.0])
    elif not model.guidance_embeds:
        config.model.true_cfg = chance.choice([1.0, 2.0])
    config.negative_prompt = chance.choice([None, "", "b"])
    return resolve(config, LAPTOP)


def weights(asked: Request) -> tuple[str, str]:
    """What the ranks load for it: seldom, if requests come in this order."""
    return asked.config.model.name, asked.dtype


def test_what_the_rules_let_pass_runs(warm, families):
    world, group = warm
    chance = random.Random(world)
    drawn = (draw(chance, families, world, ON_CPU) for _ in itertools.count())
    legal = list(itertools.islice((asked for asked in drawn if not problems(asked)), -(-SAMPLES // len(WORLDS))))
    assert {asked.config.model.name for asked in legal} == set(families)
    for asked in sorted(legal, key=weights):
        made = group.run(asked)
        assert len(made) == asked.config.images
        for shown in made:
            assert shown.shape[:3] == (asked.frames or 1, asked.requested.height, asked.requested.width)


def changed(config: LaunchConfig, words: str) -> Request:
    """The request for four ranks with some settings more."""
    config = copy.deepcopy(config)
    config.height, config.width, config.steps = 64, 64, 1
    config.cp.mode, config.runtime.processes = "unified_anything", 4
    for key, _, value in (word.partition("=") for word in words.split()):
        *path, last = key.split(".")
        setattr(functools.reduce(getattr, path, config), last, int(value) if value.lstrip("-").isdigit() else value)
    return resolve(config, LAPTOP)


ON_RANKS = (
    sharing_rules.heads,
    sharing_rules.streams_divide,
    sharing_rules.masks,
    kernel_rules.kernels,
)  # what every rank fails over
ILLEGAL = [
    # family, what breaks a rule, part of what a rank says
    ("flux_tiny", "cp.mode=ulysses cp.ulysses_degree=4", "does not divide the model's 6 heads"),
    (
        "flux_tiny",
        "cp.mode=ring cp.ring_degree=4 width=80 height=16",
        "5 tokens: ring on 4 ranks",
    ),
    ("flux_tiny", "cp.mode=unified cp.ring_degree=2 cp.ulysses_degree=2 model.text_tokens=6", "6 tokens: unified"),
    ("wan_t2v_1_3b", "cp.mode=ring cp.ring_degree=4 width=16 height=16 frames=9", "3 tokens: ring"),
    ("qwenimage", "cp.mode=ring cp.ring_degree=4 prompt=abc", "tokens: ring on 4 ranks"),
    ("flux_tiny", "cp.mode=ring_anything cp.ring_degree=2 cp.ulysses_degree=2", "needs ulysses_degree 1"),
    ("flux_tiny", "cp.mode=ring_anything cp.ring_degree=3", "there are 4 ranks"),
    ("flux_tiny", "attention.kernel=flash", "flash"),
    ("flux_tiny", "attention.kernel=_native_cudnn", "_native_cudnn"),
    ("flux_tiny", "model.text_tokens=513", "max_sequence_length"),
    ("qwenimage", "model.text_tokens=1025", "max_sequence_length"),
    ("wan_t2v_1_3b", "model.true_cfg=2", "takes no true_cfg_scale"),
    ("wan_t2v_1_3b", "height=16400 width=16 frames=1", "RuntimeError"),
    ("wan_t2v_1_3b", "frames=0", "IndexError"),
    ("ltx_video", "frames=9 output.format=jpeg", "output=mp4"),
    ("flux_tiny", "steps=0", "division by zero"),
    ("flux_tiny", "seed=18446744073709551616", "Overflow"),
    ("flux_tiny", "height=0", "cannot write empty image"),
    ("flux_tiny", "runtime.dtype=float8", "float8"),
]


@pytest.mark.parametrize("warm", [4], indirect=True)
def test_what_the_rules_refuse_fails_if_it_is_forced(warm, families):
    _, group = warm
    chance = random.Random(0)
    drawn = (draw(chance, families, 4, list(KERNELS)) for _ in itertools.count())
    # Where only some ranks fail (the last of ILLEGAL) the others wait for them.
    drawn = (asked for asked in drawn if asked.config.model.text_tokens >= 4)
    random_ones = (asked for asked in drawn if [r for r in RULES if any(r(asked))] in [[r] for r in ON_RANKS])
    for asked in sorted(itertools.islice(random_ones, SAMPLES // 10), key=weights):
        errors = group.force(asked)
        assert None not in errors, problems(asked)
    for name, words, said in ILLEGAL:
        asked = changed(families[name], words)
        assert problems(asked), words
        errors = group.force(asked)
        assert any(error is not None and said in error for error in errors), (name, words, errors)
