"""How a part's weights are divided: into blocks that follow each other, and into layers. Without torch."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BLOCK = re.compile(r"\w+\.\d+\.")  # of a list of a part's own, as diffusers' group offloading takes them
VOCABULARY = 262_208 * 5376  # numbers, of the largest one: Gemma 3 27B's


@dataclass(frozen=True)
class Layers:
    """Numbers of a part's weights.

    Args:
        pair: in its two largest blocks. outside: in no block. layer: in its largest layer.
    """

    pair: int
    outside: int
    layer: int


def layers_of(shapes: Mapping[str, Sequence[int]]) -> Layers:
    """How a part is divided, by the shapes of its tensors, by name."""
    blocks, layers, outside = Counter[str](), Counter[str](), 0
    for name, shape in shapes.items():
        count = math.prod(shape)
        layers[name.rpartition(".")[0]] += count
        if block := BLOCK.match(name):
            blocks[block[0]] += count
        else:
            outside += count
    return Layers(sum(sorted(blocks.values())[-2:]), outside, max(layers.values(), default=0))


def supposed(count: int, blocks: int | None) -> Layers:
    """How a part of so many numbers may be divided at most, where its files are not here.

    A transformer of two kinds of blocks has some of up to twice the average one (FLUX.1: 1.63), up to 5% outside
    of them, and no layer as large as an average block. A text encoder's largest layer is its vocabulary: up to 22% of
    it (Gemma 2 2B).

    Args:
        blocks: of a transformer; None: it is none.
    """
    if blocks is None:
        return Layers(count, 0, min(count // 4, VOCABULARY))
    each = count // max(1, blocks)
    return Layers(min(count, 4 * each), count // 20, each)
