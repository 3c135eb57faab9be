"""A model's facts against the configuration files of its checkpoint: all of them, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.config.model_schema import ModelConfig
from launcher.problems import Problem
from launcher.reading import UnreadableError, read_json_object

Config = Mapping[str, Any]

# VAEs whose configuration does not tell their scale: each block but the last halves the size.
HALVING = ("AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderKLCogVideoX")


def fact_problems(model: ModelConfig, folder: Path) -> Iterator[Problem]:
    """Facts that decide what is drawn, or what is legal, and that the checkpoint contradicts."""
    for part, name, value in contradictions(model, folder):
        if name == "single_layers":  # which only estimates go by
            continue
        rule = f"the {part} in model.path has {_shown(value)}, by its own configuration"
        yield Problem(f"model.{name}={_shown(getattr(model, name))}", rule, _instead(name, value))


def contradictions(model: ModelConfig, folder: Path) -> Iterator[tuple[str, str, object]]:
    """Each part, fact and value that the files in a folder have otherwise."""
    readers = [*((name, of_transformer) for name in model.transformers), ("vae", of_vae)]
    for part, read in readers:
        try:
            config = read_json_object(folder / part / "config.json")
        except (UnreadableError, TypeError):
            continue  # told by whoever looks for the files
        found, single = read(config), config.get("num_single_layers")
        if model.single_layers is not None and part != "vae" and _count(single, least=0):
            found["single_layers"] = single  # of a family whose plan marks them
        for name, value in found.items():
            stated = getattr(model, name)
            if stated == value or (name == "frames_per_latent" and stated is None):
                continue  # a model of pictures may have a video's VAE
            yield part, name, value


def _instead(name: str, value: object) -> str:
    instead = f"type model.{name}={_shown(value)}"
    if name == "guidance_embeds":
        instead += " guidance=3.5" if value else " guidance=null"
    return instead


def of_transformer(config: Config) -> dict[str, object]:
    """Facts in a transformer's configuration: as far as its class keeps them under these names."""
    found: dict[str, object] = {}
    for fact, key in (
        ("heads", "n_heads"),
        ("heads", "num_attention_heads"),
        ("head_dim", "attention_head_dim"),
        ("max_positions", "rope_max_seq_len"),
    ):
        if _count(config.get(key)):
            found[fact] = config[key]
    layers = [config[key] for key in ("num_layers", "num_single_layers") if _count(config.get(key), least=0)]
    if "num_layers" in config and layers and sum(layers):
        found["layers"] = sum(layers)
    if isinstance(config.get("guidance_embeds"), bool):
        found["guidance_embeds"] = config["guidance_embeds"]
    patch = config.get("patch_size")
    if isinstance(patch, list) and patch and _count(patch[-1]):
        found["patch"] = patch[-1]  # of a video: time, height, width
    return found


def of_vae(config: Config) -> dict[str, object]:
    """Facts in a VAE's configuration. Its classes tell the same thing under different names."""
    found: dict[str, object] = {}
    blocks, halves = config.get("block_out_channels"), config.get("temperal_downsample")  # diffusers' spelling
    if _count(config.get("spatial_compression_ratio")):
        found["vae_scale"] = config["spatial_compression_ratio"]
    elif _count(config.get("scale_factor_spatial")):
        found["vae_scale"] = config["scale_factor_spatial"]
    elif isinstance(halves, list):
        found["vae_scale"] = 2 ** len(halves)
    elif config.get("_class_name") in HALVING and isinstance(blocks, list) and blocks:
        found["vae_scale"] = 2 ** (len(blocks) - 1)
    elif (
        isinstance(deep := config.get("decoder_block_out_channels"), list)
        and config.get("_class_name") == "AutoencoderDC"
    ):
        found["vae_scale"] = 2 ** (len(deep) - 1)
    for key in ("temporal_compression_ratio", "scale_factor_temporal"):
        if _count(config.get(key)):
            found["frames_per_latent"] = config[key]
            break
    return found


def _count(value: object, least: int = 1) -> bool:
    return type(value) is int and value >= least


def _shown(value: object) -> str:
    """A value as it is typed."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
