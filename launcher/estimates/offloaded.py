"""Which weights are on a rank's device at once with runtime.offload=, where the others wait in main memory.

Text encoders, transformers and the VAE run one after another, and of each kind one at a time:

    model       the part that runs
    group       two of the transformer's largest blocks, the one that computes and the next, and what is outside of
                blocks; of another part its largest layer
    sequential  the largest layer of the part that runs

They are counted by the names in the files' headers, or without files bounded by the model's facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from launcher.families.layers import Layers, supposed
from launcher.holding import encodes
from launcher.offloading import GROUP, MODEL
from launcher.request.request import Request


@dataclass(frozen=True)
class Present:
    """Bytes of weights on a rank's device at once, at most, at three times."""

    encoding: int
    denoising: int
    decoding: int


def present(request: Request, held: Mapping[str, int], numbers: Mapping[str, int]) -> Present:
    """What is there of the parts that a rank holds.

    Args:
        held: bytes of each part's weights. numbers: how many they are.
    """
    how, transformers = request.config.runtime.offload, {"transformer", *request.config.model.transformers}
    most = {"encoding": 0, "denoising": 0, "decoding": 0}
    for name, size in held.items():
        when = "denoising" if name in transformers else "encoding" if encodes(name) else "decoding"
        count = numbers.get(name) or size
        layers, each = _layers(request, name, count, name in transformers), size / max(1, count)
        blocks = how == GROUP and name in transformers
        there = size if how == MODEL else each * (layers.pair + layers.outside if blocks else layers.layer)
        most[when] = max(most[when], min(size, int(there)))
    return Present(**most)


def _layers(request: Request, name: str, count: int, transformer: bool) -> Layers:
    known = request.inputs.checkpoint.layers.get(name)
    return known or supposed(count, request.config.model.layers if transformer else None)
