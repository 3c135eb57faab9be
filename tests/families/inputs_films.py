"""What the forward of each transformer that makes films is given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from inputs import CHANNELS, HEAD_DIM, POOLED, Config, Size, _always, _latents, _mask, _text


def wan(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    given = {
        "hidden_states": _latents(size, g),
        "encoder_hidden_states": _text(size, g),
        "timestep": torch.full((size.batch,), 500),
        "return_dict": False,
    }
    if config.get("image_dim"):
        given["encoder_hidden_states_image"] = torch.randn(size.batch, 5, config["image_dim"], generator=g)
    if "vace_in_channels" in config:
        given["control_hidden_states"] = _latents(size, g, channels=config["vace_in_channels"])
    return given


def wan_per_token(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    """Wan 2.2 TI2V: each token has a time of its own, zero for the given picture's."""
    times = torch.full((size.batch, size.tokens), 500)
    times[:, : size.height * size.width] = 0
    return wan(config, size, g) | {"timestep": times}


def skyreels_forcing(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    """Diffusion forcing: a time for each latent frame, and frames of a block see earlier blocks only."""
    times = torch.arange(size.frames).expand(size.batch, -1) * 100
    return wan(config, size, g) | {"timestep": times, "enable_diffusion_forcing": True}


def ltx(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(size.batch, size.tokens, CHANNELS, generator=g),
        "encoder_hidden_states": _text(size, g),
        "encoder_attention_mask": _always(size),
        "timestep": torch.full((size.batch,), 500.0),
        "num_frames": size.frames,
        "height": size.height,
        "width": size.width,
        "rope_interpolation_scale": (8 / 25, 32, 32),
        "return_dict": False,
    }


def ltx2(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    audio = 2 * size.frames + 4
    mask = _always(size).long()
    return {
        "hidden_states": torch.randn(size.batch, size.tokens, CHANNELS, generator=g),
        "audio_hidden_states": torch.randn(size.batch, audio, CHANNELS, generator=g),
        "encoder_hidden_states": _text(size, g),
        "audio_encoder_hidden_states": _text(size, g),
        "encoder_attention_mask": mask,
        "audio_encoder_attention_mask": mask,
        "timestep": torch.full((size.batch, size.tokens), 500.0),
        "audio_timestep": torch.full((size.batch,), 500.0),
        "num_frames": size.frames,
        "height": size.height,
        "width": size.width,
        "audio_num_frames": audio,
        "return_dict": False,
    }


def hunyuan(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    guided = {"guidance": torch.full((size.batch,), 6000.0)} if config.get("guidance_embeds", True) else {}
    return guided | {
        "hidden_states": _latents(size, g),
        "timestep": torch.full((size.batch,), 500),
        "encoder_hidden_states": _text(size, g),
        "encoder_attention_mask": _always(size).long(),
        "pooled_projections": torch.randn(size.batch, POOLED, generator=g),
        "return_dict": False,
    }


def hunyuan15(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g, patch=1),
        "timestep": torch.full((size.batch,), 500.0),
        "encoder_hidden_states": _text(size, g),
        "encoder_attention_mask": _always(size).long(),
        "encoder_hidden_states_2": _text(size, g, dim=6)[:, :3],
        "encoder_attention_mask_2": _always(size).long()[:, -3:],
        "image_embeds": torch.zeros(size.batch, 4, 5),
        "return_dict": False,
    }


def cogvideox(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    rotary = None
    if not config.get("use_rotary_positional_embeddings"):
        size = replace(size, text=config["max_text_seq_length"])  # positions for the text are added, all of them
    else:
        angles = torch.rand(size.tokens, HEAD_DIM // 2, generator=g).repeat_interleave(2, dim=1) * 6
        rotary = (angles.cos(), angles.sin())
    return {
        "hidden_states": _latents(size, g).transpose(1, 2),
        "encoder_hidden_states": _text(size, g),
        "timestep": torch.full((size.batch,), 500),
        "image_rotary_emb": rotary,
        "return_dict": False,
    }


def helios(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    def history(frames: int) -> torch.Tensor:
        return torch.randn(size.batch, CHANNELS, frames, 2 * size.height, 2 * size.width, generator=g)

    def indices(first: int, frames: int) -> torch.Tensor:
        return torch.arange(first, first + frames)[None].expand(size.batch, -1)

    return {
        "hidden_states": _latents(size, g),
        "timestep": torch.full((size.batch,), 500),
        "encoder_hidden_states": _text(size, g),
        "indices_hidden_states": indices(8, size.frames),
        "indices_latents_history_short": indices(6, 2),
        "indices_latents_history_mid": indices(4, 2),
        "indices_latents_history_long": indices(0, 4),
        "latents_history_short": history(2),
        "latents_history_mid": history(2),
        "latents_history_long": history(4),
        "return_dict": False,
    }


def kandinsky(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g).permute(0, 2, 3, 4, 1),
        "encoder_hidden_states": _text(size, g),
        "timestep": torch.full((size.batch,), 500.0),
        "pooled_projections": torch.randn(size.batch, POOLED, generator=g),
        "visual_rope_pos": [torch.arange(n) for n in (size.frames, size.height, size.width)],
        "text_rope_pos": torch.arange(size.text),
        "return_dict": False,
    }


def cosmos(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g),
        "timestep": torch.full((size.batch,), 0.5),
        "encoder_hidden_states": _text(size, g),
        "attention_mask": _mask(size),
        "fps": 16,
        "return_dict": False,
    }


def cosmos_per_frame(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    """Video to world: each latent frame has a time of its own."""
    times = (torch.arange(size.frames).float() / 10).view(1, 1, -1, 1, 1).expand(size.batch, -1, -1, -1, -1)
    return cosmos(config, size, g) | {"timestep": times}
