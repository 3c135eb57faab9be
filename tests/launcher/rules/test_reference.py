"""diffusers' own ContextParallelConfig as the reference for what it takes: our rules accept exactly the same.

Where ours differs, on purpose, a test says so. Neither the rules nor the launcher import diffusers; this test does.
"""

import copy
import itertools

import pytest
from diffusers import ContextParallelConfig

from attention_backends.catalog import mode_name
from launcher.config.compose import Composer, to_config
from launcher.estimates.ways import resolve
from launcher.gpus import Gpu
from launcher.machines import Machine
from launcher.rules.numbers import counts
from launcher.rules.sharing import modes, processes

HOST = Machine(cores=64, gpus=tuple(Gpu(index, "NVIDIA H100 80GB HBM3", 81559) for index in range(256)))
DEGREES = range(-2, 17)
CONFIG = to_config(Composer().compose(["model=flux"]))


def asked(ring: int, ulysses: int, ring_anything: bool, ulysses_anything: bool) -> list[str]:
    """The modes that someone who means these arguments may type."""
    if ring_anything and ulysses_anything:
        return []  # one mode is chosen of several: both cannot be said
    if ring_anything or ulysses_anything:
        return ["ring_anything" if ring_anything else "ulysses_anything"]
    return ["ring", "ulysses", "unified"]


def ours(mode: str, ring: int, ulysses: int, world: int | None = None) -> bool:
    config = copy.copy(CONFIG)
    config.cp = copy.copy(CONFIG.cp)
    config.runtime = copy.copy(CONFIG.runtime)
    config.cp.mode, config.cp.ring_degree, config.cp.ulysses_degree = mode, ring, ulysses
    config.runtime.processes = world
    request = resolve(config, HOST)
    return not any(list(rule(request)) for rule in (counts, modes, processes))


def theirs(**arguments: object) -> bool:
    try:
        ContextParallelConfig(**arguments)  # type: ignore[arg-type]
    except (ValueError, NotImplementedError):
        return False
    return True


def named(*degrees: int, **flags: bool) -> bool:
    try:
        mode_name(*degrees, **flags)
    except ValueError:
        return False
    return True


@pytest.mark.slow
def test_what_diffusers_takes_is_what_ours_takes():
    """Every combination of degrees and flags, with what else its constructor has: 5,776 of them."""
    tried = 0
    flags = itertools.product((False, True), repeat=2)
    for ring, ulysses, (ring_anything, ulysses_anything) in itertools.product(DEGREES, DEGREES, flags):
        both = {"ring_anything": ring_anything, "ulysses_anything": ulysses_anything}
        mine = any(ours(mode, ring, ulysses) for mode in asked(ring, ulysses, **both))
        for fp32, rotate in itertools.product((False, True), ("allgather", "alltoall")):
            arguments = {"ring_degree": ring, "ulysses_degree": ulysses, "convert_to_fp32": fp32, **both}
            expected = theirs(rotate_method=rotate, **arguments)
            # alltoall cannot be asked for here: there is no such setting, and diffusers refuses it
            assert (mine and rotate == "allgather") == expected, arguments
            tried += 1
        assert named(ring, ulysses, **both) == mine  # attention_backends by itself, without the launcher
    assert tried == 5776


@pytest.mark.parametrize("given", [{"ring_degree": 3}, {"ulysses_degree": 3}])
def test_a_degree_that_is_left_out_is_1_there_and_follows_from_the_devices_here(given):
    """Wider here: one degree is enough for diffusers' unified, where the other one is the number of GPUs over it."""
    assert theirs(**given)
    config = copy.deepcopy(CONFIG)
    config.cp.mode, config.runtime.processes = "unified", 6
    for name, degree in given.items():
        setattr(config.cp, name, degree)
    request = resolve(config, HOST)
    assert {request.mesh.ring, request.mesh.ulysses} == {2, 3}


def test_processes_must_be_the_product_here_and_at_least_the_product_there():
    """Narrower here: diffusers takes a product below the world size, and the ranks beyond it crash."""
    for ring, ulysses, world in itertools.product(range(1, 5), range(1, 5), range(1, 17)):
        if ring * ulysses > 1:
            mode = "unified" if min(ring, ulysses) > 1 else "ring" if ring > 1 else "ulysses"
            assert ours(mode, ring, ulysses, world) == (ring * ulysses == world)


def test_a_named_mode_is_held_to_its_name():
    """Narrower here: cp=ring with cp.ulysses_degree=2 would be diffusers' unified, and whoever means that types it."""
    assert theirs(ring_degree=2, ulysses_degree=2)
    assert not ours("ring", 2, 2)
    assert ours("unified", 2, 2)


def test_unified_anything_is_ours_alone():
    """Wider here: any degrees of 2 ranks or more."""
    for ring, ulysses in itertools.product(DEGREES, DEGREES):
        legal = min(ring, ulysses) >= 1 and ring * ulysses >= 2
        assert ours("unified_anything", ring, ulysses) == legal
        assert named(ring, ulysses, unified_anything=True) == legal
