"""How strong a LoRA is by its adapter's configuration, and what there changes more than its matrices. Without torch.

peft writes adapter_config.json beside the matrices, and diffusers the same into the header of their file, with the part
of the pipeline before each name (`transformer.lora_alpha`). An `alpha` among the keys goes before both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.lora_keys import Stem, some
from launcher.reading import UnreadableError, parse_json, read_json_object

PEFT_PREFIX = "base_model.model."
IN_HEADER = "lora_adapter_metadata"
BESIDE, BESIDE_OF = "adapter_config.json", ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")
# Ways to begin that leave the layer below as it is; the others (pissa, olora, loftq ...) change it too.
LONGEST_PATTERN, MOST_REPEATS = 200, 3  # of a pattern that names layers: its letters, and its *, + and {}
HARMLESS_INIT = ("gaussian", "eva", "orthogonal")
# What does more than scale * up @ down.
OTHER_KINDS = (
    "layer_replication",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "target_parameters",
)


@dataclass(frozen=True)
class Adapter:
    """An adapter's configuration.

    Args:
        values: by the names of peft's LoraConfig, perhaps behind a part of the pipeline; empty where there is none.
        place: where it was found, for an error.
    """

    values: dict[str, Any] = field(default_factory=dict)
    place: str = ""

    def of(self, part: str) -> Mapping[str, Any]:
        """The values for one part of the pipeline."""
        start = f"{part}."
        if own := {key.removeprefix(start): value for key, value in self.values.items() if key.startswith(start)}:
            return own
        return {key: value for key, value in self.values.items() if "." not in key}

    def scale(self, part: str, layer: str, rank: int) -> float:
        """What a layer's two matrices are multiplied with: alpha / rank, or alpha / sqrt(rank); 1 without a word.

        Args:
            part: of the pipeline, "transformer". layer: its name within that part. rank: of the matrices.
        """
        own = self.of(part)
        alpha = _matching(own.get("alpha_pattern"), layer, own.get("lora_alpha"))
        if alpha is None:
            return 1.0
        return float(alpha) / (math.sqrt(rank) if own.get("use_rslora") else rank)

    def flaw(self, part: str, layer: str, rank: int) -> str | None:
        """Why it can't be this layer's, as the end of a sentence that starts with its place."""
        own = self.of(part)
        told = _matching(own.get("rank_pattern"), layer, own.get("r"))
        if told not in (None, rank):
            return f"says rank {told} for {some([layer])}, which has rank {rank}: it is another LoRA's"
        return None


def read(path: Path, header: Mapping[str, str], stems: Iterable[str]) -> Adapter:
    """The configuration that belongs to a LoRA's file: that of its header, else the one beside it.

    One beside it belongs to files with peft's own prefix, and to all others where no file has the name that peft gives.

    Args:
        header: the metadata of the file's header.

    Raises:
        ValueError: it can't be read, is of another kind than LoRA, or is missing; the message names the file.
    """
    beside = path.with_name(BESIDE)
    prefixed = any(stem.startswith(PEFT_PREFIX) for stem in stems)
    others = path.name not in BESIDE_OF and any(path.with_name(name).exists() for name in BESIDE_OF)
    try:
        if IN_HEADER in header:
            place, values = f"{path.name}: its header", parse_json(header[IN_HEADER])
        elif beside.exists() and (prefixed or not others):
            place, values = f"{path.name}: {BESIDE} beside it", read_json_object(beside)
        else:
            return Adapter()
    except UnreadableError as error:
        raise ValueError(f"{path.name}: the configuration of its adapter {error}") from error
    if flaw := _flaw(values):
        raise ValueError(f"{place} {flaw}")
    return Adapter(values, place)


def scales(
    path: Path, header: Mapping[str, str], stems: Mapping[str, Stem], ranks: Mapping[str, int]
) -> dict[str, float]:
    """What the adapter's configuration multiplies each stem's matrices with; stems with an alpha of their own aside.

    Raises:
        ValueError: as `read`, or it does not fit the matrices.
    """
    adapter = read(path, header, stems)
    found = {}
    for stem, parts in stems.items():
        if "alpha" in parts.keys:
            continue
        if stem.startswith(PEFT_PREFIX) and not adapter.values:
            raise ValueError(f"{path.name} is a peft adapter, and the {BESIDE} with its strength is not beside it")
        part, layer = place(stem)
        if flaw := adapter.flaw(part, layer, ranks[stem]):
            raise ValueError(f"{adapter.place} {flaw}")
        if adapter.of(part).get("use_dora") and "magnitude" not in parts.keys:
            raise ValueError(f"{adapter.place} says that it is a DoRA, and the file has no magnitude of {some([stem])}")
        found[stem] = adapter.scale(part, layer, ranks[stem])
    return found


def place(stem: str) -> tuple[str, str]:
    """The part of the pipeline and the layer in it that a stem names, as adapters' configurations name them."""
    stem = stem.removeprefix(PEFT_PREFIX)
    match = re.match(r"(transformer|diffusion_model|text_encoder\w*|unet)\.", stem)
    if match is None:
        return "transformer", stem
    part = "transformer" if match[1] == "diffusion_model" else match[1]
    return part, stem[match.end() :]


def _matching(patterns: object, layer: str, default: Any) -> Any:
    """The value of the first pattern that names a layer, as peft matches them (peft.utils.other.get_pattern_key)."""
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        if re.match(rf"(.*\.)?({pattern})$", layer):
            return value
    return default


def _flaw(values: object) -> str | None:
    """What a configuration holds that can't be followed."""
    if not isinstance(values, dict):
        return "is no JSON object"
    for key, value in values.items():
        name = key.rpartition(".")[2]
        if name == "peft_type" and str(value).upper() not in ("LORA", "NONE"):
            return f"is of a {str(value)[:40]}, and only plain LoRAs can be used"
        if name == "init_lora_weights" and isinstance(value, str) and value not in HARMLESS_INIT:
            return f"says init_lora_weights={value[:40]}, which changes the model's own weights too; convert it to LoRA"
        if name in OTHER_KINDS and value:
            return f"uses {name}, and only plain LoRAs can be used"
        numbers = {"r": [value], "lora_alpha": [value]}.get(name, [])
        if name in ("rank_pattern", "alpha_pattern") and value is not None:
            if not isinstance(value, dict) or not all(_is_pattern(pattern) for pattern in value):
                return f"has an odd {name}"
            numbers = list(value.values())
        if not all(_is_number(number) for number in numbers if number is not None):
            return f"has an odd {name}"
    return None


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < 1e30  # type: ignore[arg-type]  # NaN is not


def _is_pattern(text: str) -> bool:
    """Whether a pattern can be matched in a moment: repeated groups, and many repeats, can take years."""
    if len(text) > LONGEST_PATTERN or len(re.findall(r"[*+{]", text)) > MOST_REPEATS or re.search(r"\)[*+?{]", text):
        return False
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        return False
    return True
