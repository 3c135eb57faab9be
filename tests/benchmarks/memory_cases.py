"""What `tests.benchmarks.memory` runs: settings of runs, by group."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from tests import twins
from tests.benchmarks import medium

TILES = ["vae.tiling=true", "vae.tile=256"]
SHARED = [*TILES, "vae.shared=true"]
RING = ["cp=ring_anything", "cp.ring_degree=2"]
ULYSSES = ["cp=ulysses_anything", "cp.ulysses_degree=2"]
SHARDED = ["runtime.weights=sharded"]
SIZES = [(16, 16), (512, 512), (1024, 1024), (2048, 1024)]
QUANTIZED = [[f"quantization={how}"] for how in ("int8", "fp8", "nf4")]


def square(side: int) -> list[str]:
    return [f"height={side}", f"width={side}"]


def sizes(_: Path) -> Iterator[list[str]]:
    """flux_tiny at four sizes, alone and on two ranks, whole and in tiles, with weights whole and sharded."""
    for (height, width), ways in itertools.product(SIZES, (["cp=none"], RING, [*RING, *SHARDED])):
        words = ["model=flux_tiny", "steps=2", f"height={height}", f"width={width}", *ways]
        tiles = [[], TILES, *([SHARED] if ways[:2] == RING else [])] if height > 512 else [[]]
        yield from ([*words, *each] for each in tiles)


def modes(_: Path) -> Iterator[list[str]]:
    """flux_tiny in each mode, on two, three and four ranks: attention's buffers differ."""
    for degrees in (
        *([f"cp={mode}", "cp.ring_degree=2"] for mode in ("ring", "diffusers_ring_anything")),
        *(["cp=ring_anything", "cp.ring_degree=3", f"cp.schedule={schedule}"] for schedule in ("gather", "staged")),
        ["cp=ulysses", "cp.ulysses_degree=2"],
        ["cp=ulysses_anything", "cp.ulysses_degree=3"],
        *([f"cp={mode}", "runtime.processes=4"] for mode in ("unified_anything", "attention2d")),
    ):
        yield ["model=flux_tiny", "steps=2", *square(1024), *degrees, *TILES]


def of_medium(folder: Path, dtype: str) -> list[str]:
    place = folder / dtype
    if not place.exists():
        medium.build(place, getattr(torch, dtype))
    return [f"model.path={place}", "seed=1"]


def large(folder: Path) -> Iterator[list[str]]:
    """The FLUX of 1 B parameters from files in bfloat16, in their dtype and converted to float32."""
    for side, dtype, *words in (
        (512, "bfloat16", "cp=none"),
        (256, "bfloat16", *RING),
        (512, "bfloat16", *ULYSSES),
        (768, "bfloat16", *RING, *SHARDED),
        (256, "bfloat16", *RING, *SHARDED),
        (512, "bfloat16", *ULYSSES, *SHARDED),
        (256, "float32", *ULYSSES),
        (256, "float32", *RING, *SHARDED),
    ):
        yield [*of_medium(folder, "bfloat16"), "steps=1", *square(side), f"runtime.dtype={dtype}", *words]


def options(folder: Path) -> Iterator[list[str]]:
    """The same in bfloat16 with each option that changes what a rank holds."""
    fixed = [*of_medium(folder, "bfloat16"), "runtime.dtype=bfloat16"]
    for words in (
        *(["steps=1", *square(256), *RING, *each] for each in QUANTIZED),
        *(["steps=5", *square(512), *RING, f"cache={name}"] for name in ("first_block", "taylorseer")),
        ["steps=1", *square(512), *RING, "compile=regional"],
        ["steps=1", *square(512), *RING, "batch=2", "images=2"],
        ["steps=1", *square(512), *RING, *SHARED],
        ["steps=1", *square(512), "cp=ring_anything", "cp.ring_degree=3", *SHARDED],
    ):
        yield [*fixed, *words]


def films(folder: Path) -> Iterator[list[str]]:
    """Tiny twins of film models."""
    for name in ("wan_t2v_1_3b", "ltx_video"):
        place = folder / name
        if not place.exists():
            twins.build(name, place)
        for size, ways in itertools.product(
            (["frames=9", *square(128)], ["frames=33", *square(512)]), (["cp=none"], RING)
        ):
            yield [*twins.FACTS[name], f"model.path={place}", "steps=2", *size, *ways]


GROUPS: dict[str, Callable[[Path], Iterator[list[str]]]] = {
    "sizes": sizes,
    "modes": modes,
    "films": films,
    "large": large,
    "options": options,
}
