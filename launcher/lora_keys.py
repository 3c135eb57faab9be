"""What the names in a LoRA's file tell: its pairs of matrices, and what is not a plain LoRA. Without torch.

A LoRA adds scale * up @ down to a layer's weights. Its files name the two lora_A and lora_B (peft, diffusers),
lora_down and lora_up (kohya) or lora.down and lora.up (older ones), behind a stem that stands for the layer. `alpha`
beside them makes the scale alpha / rank.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

PARTS = {
    "down": re.compile(r"(\.lora_A(\.default)?|\.lora_down|\.lora(_linear_layer)?\.down|_lora\d*\.down)\.weight$"),
    "up": re.compile(r"(\.lora_B(\.default)?|\.lora_up|\.lora(_linear_layer)?\.up|_lora\d*\.up)\.weight$"),
    "alpha": re.compile(r"\.alpha$"),
    "magnitude": re.compile(r"\.lora_magnitude_vector(\.default)?(\.weight)?$"),  # DoRA as peft writes it
    "bias": re.compile(r"\.lora_B(\.default)?\.bias$"),
}
OTHERS = {
    "dora_scale": "a DoRA in kohya's form",
    "lokr_": "a LoKr",
    "hada_": "a LoHa",
    "oft_": "an OFT",
    "lora_mid": "a LoCon with a third matrix",
    ".diff": "whole differences of weights",
}


@dataclass
class Stem:
    """The keys that stand for one layer, by what they are."""

    keys: dict[str, str] = field(default_factory=dict)


def stems(keys: Iterable[str]) -> tuple[dict[str, Stem], list[str]]:
    """Sort a file's keys into stems; the second of what is returned are those that fit no part of a LoRA."""
    found: dict[str, Stem] = {}
    rest = []
    for key in keys:
        for part, pattern in PARTS.items():
            if match := pattern.search(key):
                # xlabs has two LoRAs at a layer: `processor.qkv_lora1.down.weight`
                number = re.match(r"_lora\d*", match.group())
                stem = key[: match.start()] + (number.group() if number else "")
                found.setdefault(stem, Stem()).keys[part] = key
                break
        else:
            rest.append(key)
    return found, rest


def flaw(keys: Iterable[str]) -> str | None:
    """What keeps a LoRA with these keys from being worn whole, as the end of a sentence; None if nothing does."""
    found, rest = stems(keys)
    for mark, name in OTHERS.items():
        if marked := [key for key in rest if mark in key]:
            return f"is {name} ({some(marked)}), and only plain LoRAs can be used"
    if rest:
        return f"has keys that are no part of a LoRA: {some(rest)}"
    halves = [key for stem in found.values() for key in stem.keys.values() if not {"down", "up"} <= set(stem.keys)]
    if halves:
        return f"has keys without the pair of matrices that they belong to: {some(halves)}"
    return None if found else "holds no LoRA: it has no keys"


def some(keys: list[str]) -> str:
    """The first of some keys, as it can be printed, and how many there are."""
    first = keys[0] if len(keys[0]) <= 100 else f"{keys[0][:97]}..."
    first = "".join(char if char.isprintable() else repr(char)[1:-1] for char in first)
    return first if len(keys) == 1 else f"{first} and {len(keys) - 1} more"
