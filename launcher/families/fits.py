"""Parts of a pipeline against each other: each may be whole, and another model's.

Libraries say of such a pipeline that two matrices can't be multiplied, minutes later, or draw something else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.families import fits_tokenizers
from launcher.families.parts import TELLS, Part, unknown
from launcher.families.shapes import whole
from launcher.reading import UnreadableError, read_json_object

Configs = Mapping[str, Mapping[str, Any]]
FILES = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json", "model": "config.json"}

_KL = "transformer.in_channels = vae.latent_channels"
_PACKED = "transformer.in_channels = 4 vae.latent_channels"  # four neighbours are one token
_SCALE = "vae.scaling_factor"
_SHIFT = "vae.shift_factor"
# What must be equal, by the pipeline's class, and what must be a number there.
FITS: dict[str, tuple[str, ...]] = {
    "FluxPipeline": (
        _PACKED,
        "transformer.joint_attention_dim = text_encoder_2.d_model",
        "transformer.pooled_projection_dim = text_encoder.hidden_size",
    ),
    "ChromaPipeline": (_PACKED, "transformer.joint_attention_dim = text_encoder.d_model"),
    "Flux2KleinPipeline": (_PACKED,),
    "StableDiffusion3Pipeline": (_KL, "transformer.joint_attention_dim = text_encoder_3.d_model"),
    "QwenImagePipeline": (
        "transformer.in_channels = 4 vae.z_dim",
        "transformer.joint_attention_dim = text_encoder.hidden_size",
    ),
    "ZImagePipeline": (_KL, "transformer.cap_feat_dim = text_encoder.hidden_size"),
    "Lumina2Pipeline": (_KL, "transformer.cap_feat_dim = text_encoder.hidden_size"),
    "WanPipeline": ("transformer.in_channels = vae.z_dim", "transformer.text_dim = text_encoder.d_model"),
    "SkyReelsV2Pipeline": ("transformer.in_channels = vae.z_dim", "transformer.text_dim = text_encoder.d_model"),
    "LTXPipeline": (_KL, "transformer.caption_channels = text_encoder.d_model"),
    "CogVideoXPipeline": (_KL, "transformer.text_embed_dim = text_encoder.d_model"),
    "HunyuanVideoPipeline": (
        _KL,
        "transformer.text_embed_dim = text_encoder.hidden_size",
        "transformer.pooled_projection_dim = text_encoder_2.hidden_size",
    ),
}
NUMBERS: dict[str, tuple[str, ...]] = {
    "FluxPipeline": (_SCALE, _SHIFT),
    "ChromaPipeline": (_SCALE, _SHIFT),
    "StableDiffusion3Pipeline": (_SCALE, _SHIFT),
    "ZImagePipeline": (_SCALE, _SHIFT),
    "Lumina2Pipeline": (_SCALE, _SHIFT),
}
NOISE = ("CogVideoXPipeline",)  # of FITS, those whose model predicts noise and not a flow
# What decides the picture, and what the class makes up where its file leaves it out.
STATED: dict[str, tuple[str, ...]] = {
    "FlowMatchEulerDiscreteScheduler": ("num_train_timesteps", "shift"),
    "UniPCMultistepScheduler": ("num_train_timesteps", "prediction_type"),
    "CLIPTextModel": ("num_attention_heads", "eos_token_id", "hidden_act"),
    "CLIPTextModelWithProjection": ("num_attention_heads", "eos_token_id", "hidden_act"),
    "T5EncoderModel": ("relative_attention_max_distance",),
    "UMT5EncoderModel": ("relative_attention_max_distance",),
    "CLIPTokenizer": ("model_max_length",),
}
# A schedule that depends on the size of the picture is stated whole, or not at all.
DYNAMIC = ("use_dynamic_shifting", "base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
FLOW = ("use_flow_sigmas", "flow_shift")  # of schedulers that can do both:
BOTH = ("UniPC", "DPMSolver", "DEIS", "SASolver")
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?")
ROPE = ("axes_dims_rope", "axes_dim_rope", "axes_dims", "rope_axes_dim", "rope_dim")


def misfits(pipeline: str, parts: list[Part], folder: Path) -> Iterator[str]:
    """What does not fit together, each a sentence that starts with a file."""
    configs = {part.name: config for part in parts if (config := _config(part, folder)) is not None}
    for row in FITS.get(pipeline, ()):
        yield from _equal(row, configs)
    for key in NUMBERS.get(pipeline, ()):
        name, value = key.partition(".")[0], value_of(key, configs)
        if name in configs and (type(value) not in (int, float) or not math.isfinite(value)):
            yield f"{name}/config.json has no number as {key.partition('.')[2]}, which drawing needs"
        elif key == _SCALE and value == 0:
            yield f"{name}/config.json says scaling_factor=0, by which latents are divided"
    for part in parts:
        if re.match("Auto[A-Z]", part.kind):
            yield f"model_index.json says {part.kind} for '{part.name}', and diffusers takes a class's own name only"
        if part.name not in configs:
            continue
        flow = part.role == "scheduler" and pipeline in FITS and pipeline not in NOISE
        if flow and unknown(part) is None and not _flows(part, configs):
            yield f"{part.name}/{FILES['scheduler']}: a {part.kind} takes noise off, and a {pipeline} follows a flow"
        config, file = configs[part.name], f"{part.name}/{FILES[part.role]}"
        for key, value in config.items():
            if isinstance(value, str) and _NUMBER.fullmatch(value):
                yield f"{file} says {key}={value!r}, which is text in place of a number"
        needed = list(STATED.get(part.kind.removesuffix("Fast"), ()))
        if part.role == "scheduler" and any(config.get(key) for key in DYNAMIC):
            needed += DYNAMIC
        if part.kind.startswith(BOTH) and config.get("prediction_type") == "flow_prediction":
            needed += FLOW
        for key in needed:
            if key not in config:
                yield f"{file} has no {key}, which decides the picture"
        if part.role == "tokenizer":
            yield from fits_tokenizers.misfits(part, configs, folder)
        elif part.role == "model":
            yield from _model(part, config)


def _model(part: Part, config: Mapping[str, Any]) -> Iterator[str]:
    """The class that model_index.json names, and its positions."""
    told = config.get("_class_name") if part.library == "diffusers" else None
    if isinstance(told, str) and told != part.kind:
        yield f"{part.name}/config.json is a {told[:60]}'s, and model_index.json says {part.kind}"
    family, kind = str(config.get("model_type", "")).replace("_", ""), part.kind.lower().replace("_", "")
    if part.library == "transformers" and family and not _kin(family.lower(), kind):
        yield f"{part.name}/config.json is of the type {config['model_type']}, and model_index.json says {part.kind}"
    text = config.get("text_config", config)
    if isinstance(text, dict) and "num_key_value_heads" in text and not any("rope" in key for key in text):
        yield f"{part.name}/config.json has no rope_theta, which decides the picture"
    channels = config.get("z_dim")
    for key in ("latents_mean", "latents_std") if type(channels) is int else ():
        if not isinstance(config.get(key), list) or len(config[key]) != channels:
            yield f"{part.name}/config.json has no {key} of {channels} numbers, one for each channel (z_dim)"
    config = whole(part.kind, config)
    head = config.get("attention_head_dim")
    for key in ROPE:
        axes = config.get(key)
        if type(head) is not int or not isinstance(axes, list) or not all(type(axis) is int for axis in axes):
            continue
        if sum(axes) != head:
            yield f"{part.name}/config.json says {key}={axes}, together {sum(axes)}, and attention_head_dim={head}"
        elif any(axis % 2 for axis in axes):
            yield f"{part.name}/config.json says {key}={axes}, and each must be even"
        elif len(usual := whole(part.kind, {}).get(key, axes)) != len(axes):
            yield f"{part.name}/config.json says {key}={axes}, and a {part.kind} has {len(usual)} axes"


def _flows(part: Part, configs: Configs) -> bool:
    """Whether a scheduler follows a flow, as most models' do since 2024; others draw noise with them, or fail."""
    config = configs[part.name]
    told = config.get("use_flow_sigmas") is True or config.get("prediction_type") == "flow_prediction"
    return "FlowMatch" in part.kind or told


def _kin(family: str, kind: str) -> bool:
    """Whether a class of transformers can be of a type of configuration; MT5 and UMT5 are read as T5 too."""
    return family in kind or family[:3] == kind[:3] or ("t5" in family and "t5" in kind)


def _equal(row: str, configs: Configs) -> Iterator[str]:
    left, _, right = row.partition(" = ")
    factor, _, key = right.rpartition(" ")
    here, there = value_of(left, configs), value_of(key, configs)
    if type(here) is int and type(there) is int and here != int(factor or 1) * there:
        name, _, own = left.partition(".")
        other, _, its = key.partition(".")
        times = f", and {factor} times that is needed" if factor else ""
        yield f"{name}/config.json says {own}={here}, and {other}/config.json {its}={there}{times}"


def value_of(key: str, configs: Configs) -> Any:
    """A number of a part's configuration; that of a model of several kinds of input is in its part for text."""
    part, _, name = key.partition(".")
    config = configs.get(part, {})
    text = config.get("text_config")
    return text[name] if isinstance(text, dict) and name in text else config.get(name)


def _config(part: Part, folder: Path) -> dict[str, Any] | None:
    if part.role not in FILES:
        return None
    try:
        config = read_json_object(folder / part.name / FILES[part.role])
    except UnreadableError:
        return None  # told by whoever looks at the parts
    tells = None if part.role == "tokenizer" else TELLS.get(part.library)
    return config if tells is None or tells in config else None  # that too
