"""Whether a model wears all of a LoRA's file, matrix by matrix and scale by scale, whatever a converter made of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from launcher.lora_keys import some

TOLERANCE = 0.05  # of a matrix' energy: bfloat16 changes less than 0.01 of it
FINGERPRINT = 64  # elements of a row, whose signs tell it from the other rows


@dataclass
class Pair:
    """The two matrices of a layer.

    Args:
        down: (rank, inputs, ...). up: (outputs, rank, ...).
        more: they have a bias or a magnitude beside them.
    """

    name: str
    down: torch.Tensor
    up: torch.Tensor
    scale: float
    more: bool = False

    def rows(self) -> list[bytes]:
        """A fingerprint of each row of `down`, which scaling and rounding leave as it is."""
        down = self.down.flatten(1).float()
        signs = (down[:, :FINGERPRINT].sign() + 1).to(torch.uint8).numpy()
        return [b"%d " % down.shape[1] + row.tobytes() for row in signs]

    def energies(self) -> list[float]:
        """What each row adds to the layer: the square of scale * |row of down| * |column of up|."""
        down, up = self.down.flatten(1).double(), self.up.flatten(1).double()
        return ((self.scale**2) * down.square().sum(1) * up.square().sum(0)).tolist()


def all_worn(file: str, pairs: list[Pair], more: list[str], pipe: Any, adapter: str) -> None:
    """Check that the pipeline wears every matrix of the file, with its scale.

    A converter may cut `up` into the parts of a fused layer, deal the rows of `down` out to them, and move the
    scale from one to the other. All of this leaves the signs of a row of `down`, and the energy that belongs to it.

    Args:
        file: its name.
        pairs: what it holds for this pipeline.
        more: the layers for which it has a bias or a magnitude too.
        adapter: by which peft knows what was put on.

    Raises:
        ValueError: something was dropped, or has another scale.
    """
    there = list(_worn(pipe, adapter))
    given, worn = _energies(pairs), _energies(there)
    dropped, wrong = [], {}
    for pair in pairs:
        own = {row: given[row] for row in dict.fromkeys(pair.rows()) if given[row] > 0}
        found = {row: worn[row] for row in own if row in worn}
        if own and sum(own[row] for row in found) < (1 - TOLERANCE) * sum(own.values()):
            dropped.append(pair.name)
        elif own:
            ratio = sum(found.values()) / sum(given[row] for row in found)
            if abs(ratio - 1) > TOLERANCE:
                wrong[pair.name] = math.sqrt(ratio)
    kind = type(pipe).__name__
    if dropped:
        many = f"{len(dropped)} of the {len(pairs)} layers in {file}"
        raise ValueError(f"{many} can't be used by {kind}: {some(dropped)}")
    if wrong:
        factor = next(iter(wrong.values()))
        raise ValueError(f"{file} would be {factor:.3g} times as strong as it says at {some(list(wrong))}")
    if len(more) > sum(pair.more for pair in there):
        raise ValueError(f"{file} has biases or magnitudes that can't be used by {kind}: {some(more)}")


def among(pair: Pair, state: dict[str, torch.Tensor]) -> bool:
    """Whether this pair, or what a converter made of it, is among these tensors."""
    return any(tensor.shape == pair.down.shape and torch.equal(tensor, pair.down) for tensor in state.values())


def _energies(pairs: list[Pair]) -> dict[bytes, float]:
    """The energy of all rows with the same fingerprint."""
    found: dict[bytes, float] = defaultdict(float)
    for pair in pairs:
        for row, energy in zip(pair.rows(), pair.energies(), strict=True):
            found[row] += energy
    return dict(found)


def _worn(pipe: Any, adapter: str) -> Iterator[Pair]:
    """What the pipeline's layers wear of one adapter."""
    for part, module in pipe.components.items():
        for name, layer in module.named_modules() if isinstance(module, torch.nn.Module) else ():
            if adapter in getattr(layer, "lora_A", ()):
                down, up = layer.lora_A[adapter], layer.lora_B[adapter]
                if down.weight.is_meta or up.weight.is_meta:
                    continue  # peft made room for them, and nothing of the file came there
                more = up.bias is not None or adapter in getattr(layer, "lora_magnitude_vector", ())
                yield Pair(f"{part}.{name}", down.weight.cpu(), up.weight.cpu(), float(layer.scaling[adapter]), more)
