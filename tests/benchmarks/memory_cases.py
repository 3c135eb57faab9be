"""What `tests.benchmarks.memory` runs: settings of runs, by group."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

# ruff: noqa: E402  (the families' tests find each other by path)
sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "families")]

import pipelines
import twins

from tests.benchmarks import medium

TILES = ["vae.tiling=true", "vae.tile=256"]
SHARED = [*TILES, "vae.shared=true"]
RING = ["cp=ring_anything", "cp.ring_degree=2"]
ULYSSES = ["cp=ulysses_anything", "cp.ulysses_degree=2"]
SHARDED = ["runtime.weights=sharded"]
SIZES = [(16, 16), (512, 512), (1024, 1024), (2048, 1024)]
CACHES = ["first_block", "mag", "taylorseer", "faster", "pab"]
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
    """Each option that changes what a rank holds, with the FLUX of 1 B parameters in bfloat16 and with flux_tiny."""
    fixed = [*of_medium(folder, "bfloat16"), "runtime.dtype=bfloat16"]
    for words in (
        *(["steps=1", *square(256), *RING, *each] for each in QUANTIZED),
        *(["steps=5", *square(512), *RING, f"cache={name}"] for name in ("first_block", "taylorseer")),
        ["steps=1", *square(512), *RING, "batch=2", "images=2"],
        ["steps=1", *square(512), *RING, "batch=2", "images=2", "vae.slicing=true"],
        ["steps=1", *square(512), *RING, *SHARED],
        ["steps=1", *square(512), "cp=ring_anything", "cp.ring_degree=3", *SHARED],
    ):
        yield [*fixed, *words]
    for words in (
        *(["steps=5", f"cache={name}", *TILES] for name in CACHES),
        ["steps=2", "batch=2", "images=2", "vae.slicing=true"],
        *(["steps=2", *TILES, *each] for each in QUANTIZED),
    ):
        yield ["model=flux_tiny", *square(1024), *RING, *words]


def compiled(folder: Path) -> Iterator[list[str]]:
    """compile= alone and with what it goes with, with the FLUX of 1 B parameters in bfloat16 and with flux_tiny."""
    fixed = [*of_medium(folder, "bfloat16"), "runtime.dtype=bfloat16", "steps=1", *square(512), *RING]
    yield from ([*fixed, "compile=regional", *words] for words in ([], SHARDED, *QUANTIZED[:1]))
    for words in ([*RING, *TILES], ["cp=none", "cp.cfg_degree=2", "model.true_cfg=2", "negative_prompt=blue", *TILES]):
        yield ["model=flux_tiny", "steps=2", *square(1024), "compile=regional", *words]


# Facts of the twins' VAEs, and the films that they make: frames, side and ways. All stages of theirs have 4 or 8
# channels, so what the others hold counts for more tensors of the last than with the large ones.
VAES = {
    "wan_t2v_1_3b": ["model.vae_width=4", "model.vae_tensors=9"],
    "ltx_video": ["model.vae_width=8", "model.vae_tensors=6"],
    "hunyuan_video": ["model.vae_width=4"],
    "cogvideox_5b": ["model.vae_width=4", "model.vae_tensors=24"],
    "hunyuan_video_15": ["model.vae_width=8"],
}
FILMS: dict[str, list[tuple[int, int, list[str]]]] = {
    "wan_t2v_1_3b": [(9, 128, RING), (9, 512, []), (33, 512, RING), (33, 512, [*RING, *TILES]), (17, 768, TILES)],
    "ltx_video": [(9, 128, []), (33, 512, RING), (65, 512, []), (33, 512, TILES), (33, 512, [*RING, *SHARED])],
    "cogvideox_5b": [(9, 256, RING), (33, 256, [])],
    "hunyuan_video_15": [(9, 256, []), (33, 256, ULYSSES)],
    "hunyuan_video": [(9, 256, ULYSSES), (33, 256, []), (33, 512, ULYSSES), (33, 512, [*ULYSSES, *SHARED])],
}


def films(folder: Path) -> Iterator[list[str]]:
    """Tiny twins of film models, whole and in tiles, on one rank and on two."""
    for name, cases in FILMS.items():
        place, own = folder / name, twins.FACTS.get(name)
        if not place.exists():
            (twins if own else pipelines).build(name, place)
        words = [*own, f"model.path={place}"] if own else pipelines.words(name, place)
        for frames, side, ways in cases:
            how = ways if ways[:1] in (RING[:1], ULYSSES[:1]) else ["cp=none", *ways]
            yield [*words, *VAES[name], "steps=2", f"frames={frames}", *square(side), *how]


GROUPS: dict[str, Callable[[Path], Iterator[list[str]]]] = {
    "sizes": sizes,
    "modes": modes,
    "compiled": compiled,
    "films": films,
    "large": large,
    "options": options,
}
