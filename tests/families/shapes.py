"""Which sizes in a model's files its configuration decides: found by building each class again and again, on no device.

    python tests/families/shapes.py     # writes launcher/families/shapes.json

Doubling one number of a configuration doubles some sizes of some weights, or adds blocks. From that, for each number
the weight that tells most of it: a size that is the product of few numbers, or how many blocks a list has.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
import math
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# ruff: noqa: E402  (the helpers are found by path)
sys.path[:0] = [
    str(HERE),
    str(HERE.parent),
    str(HERE.parent.parent),
    str(HERE.parent / "attention_backends" / "helpers"),
]

import diffusers
import torch
import transformers
from miniatures import OTHERS, TINY

from launcher.families.fits import ROPE
from launcher.families.shapes import _counts, _value, contradictions

TABLE = HERE.parent.parent / "launcher" / "families" / "shapes.json"
# Small ones of each autoencoder in conf/model; sizes differ from each other, so that each tells its own number.
_WAN = {"base_dim": 4, "z_dim": 6, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 1}
AUTOENCODERS: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (4, 8, 16, 32),
        "layers_per_block": 1,
        "latent_channels": 6,
        "norm_num_groups": 2,
    },
    "AutoencoderKLFlux2": {"block_out_channels": (4, 8, 16, 32), "latent_channels": 6, "norm_num_groups": 2},
    "AutoencoderKLWan": {**_WAN, "latents_mean": [0.0] * 6, "latents_std": [1.0] * 6},
    "AutoencoderKLQwenImage": {**_WAN, "latents_mean": [0.0] * 6, "latents_std": [1.0] * 6},
    "AutoencoderKLLTXVideo": {
        "latent_channels": 6,
        "block_out_channels": (4, 8, 16, 16),
        "decoder_block_out_channels": (4, 8, 16, 16),
        "layers_per_block": (1, 1, 1, 1, 1),
        "decoder_layers_per_block": (1, 1, 1, 1, 1),
    },
    "AutoencoderKLHunyuanVideo": {"latent_channels": 6, "block_out_channels": (4, 8, 16, 32), "norm_num_groups": 2},
    "AutoencoderKLCogVideoX": {"latent_channels": 6, "block_out_channels": (4, 8, 16, 32), "norm_num_groups": 2},
}
_T5 = {"vocab_size": 40, "d_model": 12, "d_kv": 5, "d_ff": 22, "num_layers": 3, "num_heads": 2}
_CLIP = {
    "vocab_size": 40, "hidden_size": 12, "intermediate_size": 22, "num_hidden_layers": 3, "num_attention_heads": 2,
    "max_position_embeddings": 26, "projection_dim": 7,
}  # fmt: skip
ENCODERS = {
    "T5EncoderModel": _T5,
    "UMT5EncoderModel": _T5,
    "CLIPTextModel": _CLIP,
    "CLIPTextModelWithProjection": _CLIP,
}
# Other ways that a class is published in.
MORE: dict[str, list[dict[str, Any]]] = {
    "AutoencoderKL": [
        {**AUTOENCODERS["AutoencoderKL"], "use_quant_conv": False, "use_post_quant_conv": False, "layers_per_block": 2}
    ],
    "AutoencoderKLWan": [
        {
            **AUTOENCODERS["AutoencoderKLWan"], "decoder_base_dim": 8, "is_residual": True, "in_channels": 12,
            "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16,
        }
    ],
    "AutoencoderKLLTXVideo": [
        {
            "latent_channels": 6, "block_out_channels": (4, 8, 16, 16), "decoder_block_out_channels": (4, 8, 12),
            "layers_per_block": (1, 2, 1, 1, 3), "decoder_layers_per_block": (2, 1, 1, 1),
            "decoder_spatio_temporal_scaling": (True, True, True), "decoder_inject_noise": (True, False, False, False),
            "upsample_residual": (True, True, True), "upsample_factor": (2, 2, 2), "timestep_conditioning": True,
        },
        {  # LTX-Video 0.9.5
            "block_out_channels": (128, 256, 512, 1024, 2048), "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
            "decoder_block_out_channels": (256, 512, 1024), "layers_per_block": (4, 6, 6, 2, 2),
            "decoder_layers_per_block": (5, 5, 5, 5), "spatio_temporal_scaling": (True,) * 4,
            "decoder_spatio_temporal_scaling": (True,) * 3, "decoder_inject_noise": (False,) * 4,
            "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
            "upsample_residual": (True,) * 3, "upsample_factor": (2, 2, 2), "timestep_conditioning": True,
        },
    ],
    "T5EncoderModel": [{**_T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}],
}  # fmt: skip
Shapes = dict[str, tuple[int, ...]]


def classes() -> dict[str, dict[str, Any]]:
    """A small configuration of each class in conf/model."""
    tiny = {each.kind: each.config for name, each in reversed(TINY.items()) if name not in OTHERS}
    return {**tiny, **AUTOENCODERS, **ENCODERS}


def others(kind: str) -> list[dict[str, Any]]:
    """More configurations of a class: diffusers' default is a published model's."""
    tiny = [tiny.config for tiny in TINY.values() if tiny.kind == kind]
    return [*tiny, *([] if kind in ENCODERS else [{}]), *MORE.get(kind, [])]


def table(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """The rows of one class, as launcher.families.shapes.table tells of them."""
    base = built(kind, config)
    whole = dict(base[1])
    changed = {key: shapes for key, value in numbers(whole) if (shapes := again(kind, config, key, 2 * value))}
    more = [built(kind, other) for other in others(kind)]
    elsewhere = [shapes for shapes, _ in more]
    sizes: dict[str, list[Any]] = {}
    for key in changed:
        rows = []
        for (name, axis), size in places(base[0]).items():
            doubled = [other for other, shapes in changed.items() if places(shapes).get((name, axis), size) == 2 * size]
            same = all(
                places(changed[other]).get((name, axis), size) == size for other in changed if other not in doubled
            )
            product = math.prod(_value(whole, other) for other in doubled)
            if key in doubled and same and size % product == 0:
                absent = sum(name not in shapes for shapes in elsewhere)
                rows.append((len(doubled), absent, len(name), name, axis, [size // product, *doubled]))
        if rows:
            *_, name, axis, made = min(rows)
            sizes[f"{name} {axis}"] = made
    blocks = {}
    for key, shapes in changed.items():
        value = _value(whole, key)
        before, after = _counts(base[0]), _counts(shapes)
        for prefix in sorted(before, key=len):
            if before[prefix] == value and after.get(prefix) == 2 * value:
                blocks[prefix] = key
                break
    for key, prefix in (("down_block_types.", "encoder.down_blocks"), ("up_block_types.", "decoder.up_blocks")):
        if (held := _value(whole, key)) is not None and held == _counts(base[0]).get(prefix):
            blocks[prefix] = key
    present = {}
    for key, value in whole.items():
        if isinstance(value, bool) and (shapes := again(kind, config, key, not value)) is not None:
            yes, no = (base[0], shapes) if value else (shapes, base[0])
            if only := [name for name in yes if name not in no]:
                present[min(only, key=lambda name: (len(name), name))] = key
    rows = {"sizes": sizes, "blocks": blocks, "present": present}
    for shapes, values in [base, *more]:  # what holds for one way of a class alone is no row
        for place, _ in list(contradictions(rows, values, shapes)):
            for found in rows.values():
                found.pop(place, None)
    used = {key.partition(".")[0] for made in sizes.values() for key in made[1:]} | {
        key.partition(".")[0] for found in (blocks, present) for key in found.values()
    }
    rows["defaults"] = {key: value for key, value in defaults(kind).items() if key in used or key in ROPE}
    return {name: dict(sorted(found.items())) for name, found in rows.items() if found}


def defaults(kind: str) -> dict[str, Any]:
    """What a class makes of keys that are left out."""
    if kind in ENCODERS:
        return json.loads(getattr(transformers, kind).config_class().to_json_string(use_diff=False))
    taken = inspect.signature(getattr(diffusers, kind).__init__).parameters.values()
    return {one.name: one.default for one in taken if one.default not in (inspect.Parameter.empty, None)}


def built(kind: str, config: dict[str, Any]) -> tuple[Shapes, dict[str, Any]]:
    """The weights' sizes, and the whole configuration."""
    with torch.device("meta"):
        if kind in ENCODERS:
            family = getattr(transformers, kind)
            model = family(family.config_class(**config))
            whole = json.loads(model.config.to_json_string(use_diff=False))
        else:
            model = getattr(diffusers, kind)(**config)
            whole = dict(model.config)
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}, whole


def again(kind: str, config: dict[str, Any], key: str, value: int) -> Shapes | None:
    """The same with one number changed; None where the class doesn't take it."""
    changed = copy.deepcopy(config)
    name, _, place = key.partition(".")
    if place:
        whole = list(built(kind, config)[1][name])
        whole[int(place)] = value
        changed[name] = whole
    else:
        changed[name] = value
    with contextlib.suppress(Exception):  # sizes that must divide each other
        return built(kind, changed)[0]
    return None


def numbers(config: dict[str, Any]) -> list[tuple[str, int]]:
    """The counts in a configuration, those in lists as `key.place`."""
    found = []
    for key, value in config.items():
        if type(value) is int and 0 < value < 1 << 20 and not key.startswith("_"):
            found.append((key, value))
        elif isinstance(value, list | tuple) and len(value) < 8:
            found += [(f"{key}.{place}", each) for place, each in enumerate(value) if type(each) is int and each > 0]
    return found


def places(shapes: Shapes) -> dict[tuple[str, int], int]:
    return {(name, axis): size for name, shape in shapes.items() for axis, size in enumerate(shape)}


def whole() -> dict[str, Any]:
    return {kind: table(kind, config) for kind, config in sorted(classes().items())}


def written(rows: dict[str, Any]) -> str:
    return json.dumps(rows, indent=1) + "\n"


if __name__ == "__main__":
    TABLE.write_text(written(whole()), encoding="utf-8")
