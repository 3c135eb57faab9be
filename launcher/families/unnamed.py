"""A pipeline that no model= was named for: its facts, read from its files and from the source of its class.

What decides how a picture is drawn is read or is what the pipeline's own call defaults to. What only estimates need
(layers, heads, parameters) is taken as far as its configuration has it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.families import class_plans, sources
from launcher.families.facts import of_transformer, of_vae
from launcher.families.parts import Part, read_index
from launcher.problems import Problem, Refused
from launcher.reading import UnreadableError, read_json_object

DENOISERS = ("transformer", "transformer_2", "unconditional_transformer", "unet", "prior", "decoder")
PICTURES = ("image", "video", "images", "control_image", "mask_image", "mask", "init_image")  # that it starts from
# Each argument of a call that the launcher fills in, by the setting it comes from: ArgumentNames has their meaning.
ARGUMENTS = {
    "height": ("height",),
    "width": ("width",),
    "frames": ("num_frames",),
    "fps": ("frame_rate", "fps"),
    "steps": ("num_inference_steps",),
    "guidance": ("guidance_scale",),
    "true_cfg": ("true_cfg_scale",),
    "negative_prompt": ("negative_prompt",),
    "text_tokens": ("max_sequence_length",),
}
SIDE, FPS, STEPS = 512, 24, 30  # where neither its call nor its configuration has a default


def facts(path: str, folder: Path) -> dict[str, Any]:
    """The fields of ModelConfig for the pipeline in a folder; what is not in it keeps the schema's default.

    Args:
        path: as it was typed, for errors.

    Raises:
        Refused: it is no pipeline of the installed diffusers, or one without a model that denoises.
        UnreadableError: it has no model_index.json that can be read.
    """
    pipeline, parts = read_index(folder)
    value = f"model.path={path}"
    node = sources.pipeline(pipeline)
    call = sources.method(node, "__call__") if node is not None else None
    if node is None or call is None:
        told = f"holds a {pipeline}, which is not a pipeline of the installed diffusers"
        raise Refused([Problem(value, told, "type pip install --upgrade diffusers, or give another folder")])
    names = [part.name for part in parts]
    denoisers = [name for name in DENOISERS if name in names]
    given = sources.parameters(call)
    if not denoisers or "prompt" not in given:
        told = f"holds a {pipeline}, which draws nothing from a prompt by denoising"
        raise Refused([Problem(value, told, "give the folder of another pipeline")])
    model, vae = _config(folder, denoisers[0]), _config(folder, "vae")
    found: dict[str, Any] = {"name": _name(folder, path), "pipeline": pipeline, "path": path, "transformers": denoisers}
    found |= {"counted": False, "text": "whole", "prompt": "a cat on a wooden bench"}
    found |= _shape(model) | of_transformer(model) | of_vae(vae) | class_plans.facts(str(model.get("_class_name")))
    if "patch" not in found:  # pipelines pack latents by two, or ask for multiples of 8 or 16 pixels, and don't say so
        scale = found.setdefault("vae_scale", 8)
        found["patch"] = math.lcm(scale, 16) // scale
    scale = found.setdefault("vae_scale", 8)
    found["patch"] = math.lcm(scale * found["patch"], sources.multiple(node)) // scale
    if "num_frames" not in given:
        found["frames_per_latent"] = None
    return found | _call(given, model, found) | _tokenizer(parts)


def _config(folder: Path, part: str) -> Mapping[str, Any]:
    try:
        return read_json_object(folder / part / "config.json")
    except UnreadableError:  # told by whoever looks for the files
        return {}


def _name(folder: Path, path: str) -> str:
    """A folder's own name, or a repository's: of one in the hub's cache the folder is a commit."""
    last = path.rstrip("/").rpartition("/")[2] or folder.resolve().name
    return re.sub(r"\W+", "_", last).strip("_").lower()[:64] or "unnamed"


def _shape(model: Mapping[str, Any]) -> dict[str, Any]:
    """Heads, their size and layers under the names that older classes keep them; at least 1, for estimates only."""

    def last(key: str) -> int:
        number = model.get(key)
        number = number[-1] if isinstance(number, list) and number else number
        return number if type(number) is int and number > 0 else 0

    heads = last("num_attention_heads") or last("n_heads") or last("attention_head_dim") or 1
    width = last("dim") or last("hidden_size") or last("block_out_channels")
    layers = last("num_layers") or last("n_layers") or last("layers_per_block") or 1
    return {"heads": heads, "head_dim": max(1, width // heads) if width else 64, "layers": layers}


def _call(given: Mapping[str, Any], model: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """What the call takes, and what it does where it is told nothing."""

    def default(setting: str) -> Any:
        value = next((given[name] for name in ARGUMENTS[setting] if name in given), None)
        return value if type(value) in (int, float) else None

    arguments = {key: next((name for name in names if name in given), None) for key, names in ARGUMENTS.items()}
    embeds = bool(found.get("guidance_embeds", False))
    takes_scale = arguments["guidance"] is not None and arguments["negative_prompt"] is not None
    cfg = takes_scale and not embeds and arguments["true_cfg"] is None
    sample, scale = model.get("sample_size"), found.get("vae_scale", 8)
    side = sample * scale if type(sample) is int and 0 < sample * scale <= 4096 else SIDE
    video = found.get("frames_per_latent") is not None
    starts = [name for name in PICTURES if name in given]
    what = "video" if video else "image"
    guidance = default("guidance")
    return {
        "arguments": arguments,
        "task": f"text-to-{what}" if not starts else "image-to-video" if video else "image-edit",
        "guidance_embeds": embeds,
        "guidance_cfg": cfg,
        "guidance": float(guidance) if isinstance(guidance, int | float) and (cfg or embeds) else 5.0 if cfg else None,
        "height": default("height") or side,
        "width": default("width") or side,
        "frames": (default("frames") or 16) if video else None,
        "fps": (default("fps") or FPS) if video else None,
        "steps": default("steps") or STEPS,
        "text_tokens": default("text_tokens") or 512,
    }


def _tokenizer(parts: list[Part]) -> dict[str, Any]:
    """The last tokenizer: the text that a transformer gets is that of the largest encoder."""
    names = sorted(part.name for part in parts if part.role in ("tokenizer", "processor"))
    return {"tokenizer": names[-1]} if names else {}
