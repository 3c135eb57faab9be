"""What each transformer's forward is given: tensors as its pipeline makes them, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

HEADS, HEAD_DIM, LAYERS = 4, 12, 2
WIDTH = HEADS * HEAD_DIM
TEXT_DIM, POOLED, CHANNELS = 8, 8, 4
Config = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """What a transformer is asked for: latents in time, tokens each way, text tokens, prompts, how the mask is."""

    frames: int = 2
    height: int = 3
    width: int = 5
    text: int = 7
    batch: int = 1
    mask: str = "none"  # none, true (given, and hides nothing), partial

    @property
    def tokens(self) -> int:
        return self.frames * self.height * self.width


def _mask(size: Size, hidden: int = 3) -> torch.Tensor | None:
    """(batch, text), True for a token that counts; None without a mask."""
    if size.mask == "none":
        return None
    mask = torch.ones(size.batch, size.text, dtype=torch.bool)
    if size.mask == "partial":
        for prompt in range(size.batch):
            # of one prompt alone the end is hidden too, or nothing would be
            count = min(hidden * (prompt + (size.batch == 1)), size.text - 1)
            mask[prompt, size.text - count :] = False
    return mask


def _always(size: Size) -> torch.Tensor:
    """A mask for a class that does not go without one."""
    found = _mask(size)
    return found if found is not None else torch.ones(size.batch, size.text, dtype=torch.bool)


def _latents(size: Size, g: torch.Generator, channels: int = CHANNELS, patch: int = 2) -> torch.Tensor:
    return torch.randn(size.batch, channels, size.frames, patch * size.height, patch * size.width, generator=g)


def _text(size: Size, g: torch.Generator, dim: int = TEXT_DIM) -> torch.Tensor:
    return torch.randn(size.batch, size.text, dim, generator=g)


def _grid(size: Size, axes: int, first: int = 0) -> torch.Tensor:
    """(tokens, axes): the place of each token, its row and column on the last axes but `first`."""
    ids = torch.zeros(size.frames, size.height, size.width, axes)
    ids[..., axes - 2 - first] = torch.arange(size.height)[None, :, None]
    ids[..., axes - 1 - first] = torch.arange(size.width)[None, None, :]
    return ids.flatten(0, 2)


def flux(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    given = {
        "hidden_states": torch.randn(size.batch, size.tokens, CHANNELS, generator=g),
        "encoder_hidden_states": _text(size, g),
        "timestep": torch.full((size.batch,), 0.5),
        "img_ids": _grid(size, 3),
        "txt_ids": torch.zeros(size.text, 3),
        "return_dict": False,
    }
    if "pooled_projection_dim" in config:
        given["pooled_projections"] = torch.randn(size.batch, POOLED, generator=g)
        if config.get("guidance_embeds"):
            given["guidance"] = torch.full((size.batch,), 3.5)
    elif (mask := _mask(size)) is not None:
        # Chroma's pipeline makes it so: text first, numbers that are added to the scores, one padding token counts.
        lengths = mask.sum(dim=1, keepdim=True)
        text = (torch.arange(size.text)[None] <= lengths).float()
        given["attention_mask"] = torch.cat([text, torch.ones(size.batch, size.tokens)], dim=1)
    return given


def flux2(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    ids = _grid(size, 4, first=1)
    text_ids = torch.zeros(size.text, 4)
    text_ids[:, 3] = torch.arange(size.text)
    given = {
        "hidden_states": torch.randn(size.batch, size.tokens, CHANNELS, generator=g),
        "encoder_hidden_states": _text(size, g),
        "timestep": torch.full((size.batch,), 0.5),
        "img_ids": ids.expand(size.batch, -1, -1),
        "txt_ids": text_ids.expand(size.batch, -1, -1),
        "return_dict": False,
    }
    if config.get("guidance_embeds"):
        given["guidance"] = torch.full((size.batch,), 3.5)
    return given


def flux3(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    given = flux2(config, size, g)
    given |= {name: given[name][0] for name in ("img_ids", "txt_ids")}  # without a batch
    given["image_cond_hidden_states"] = torch.randn(size.batch, 8, CHANNELS, generator=g)
    given["image_cond_ids"] = torch.ones(8, 4)
    return given


def qwen(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(size.batch, size.tokens, CHANNELS, generator=g),
        "encoder_hidden_states": _text(size, g),
        "encoder_hidden_states_mask": _mask(size),
        "timestep": torch.full((size.batch,), 0.5),
        "img_shapes": [[(size.frames, size.height, size.width)]] * size.batch,
        "return_dict": False,
    }


def zimage(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    lengths = [max(1, size.text - 3 * n * (size.mask == "partial") * 11) for n in range(size.batch)]
    return {
        "x": list(_latents(size, g).unbind(0)),
        "t": torch.full((size.batch,), 0.5),
        "cap_feats": [torch.randn(length, TEXT_DIM, generator=g) for length in lengths],
        "return_dict": False,
    }


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


def hunyuanimage(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    """The distilled one is told its guidance scale, and the next step's time."""
    guided = {"guidance": torch.full((size.batch,), 3250.0)} if config.get("guidance_embeds") else {}
    return guided | {
        "timestep_r": torch.full((size.batch,), 400.0) if config.get("use_meanflow") else None,
        "hidden_states": _latents(size, g, patch=1)[:, :, 0],
        "timestep": torch.full((size.batch,), 500.0),
        "encoder_hidden_states": _text(size, g),
        "encoder_attention_mask": _always(size).long(),
        "encoder_hidden_states_2": _text(size, g, dim=6)[:, :3],
        "encoder_attention_mask_2": _always(size).long()[:, -3:],
        "return_dict": False,
    }


def sd3(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g)[:, :, 0],
        "encoder_hidden_states": _text(size, g),
        "pooled_projections": torch.randn(size.batch, POOLED, generator=g),
        "timestep": torch.full((size.batch,), 500),
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


def lumina2(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g)[:, :, 0],
        "timestep": torch.full((size.batch,), 0.5),
        "encoder_hidden_states": _text(size, g),
        "encoder_attention_mask": _always(size),
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


def krea2(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(size.batch, size.tokens, CHANNELS, generator=g),
        "encoder_hidden_states": torch.randn(size.batch, size.text, 3, TEXT_DIM, generator=g),
        "timestep": torch.full((size.batch,), 0.5),
        "position_ids": torch.cat([torch.zeros(size.text, 3), _grid(size, 3)]),
        "encoder_attention_mask": _mask(size),
        "return_dict": False,
    }


def ideogram4(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    """The pipeline pads short prompts on the left, with a segment of their own."""
    from diffusers.models.transformers import transformer_ideogram4 as module

    total = size.text + size.tokens
    segments = torch.ones(size.batch, total, dtype=torch.long)
    indicator = torch.full((size.batch, total), module.OUTPUT_IMAGE_INDICATOR)
    indicator[:, : size.text] = module.LLM_TOKEN_INDICATOR
    mask = _mask(size)
    if mask is not None:
        segments[:, : size.text] = torch.where(mask.flip(1), 1, -1)
    ids = torch.cat([torch.arange(size.text)[:, None].expand(-1, 3).float(), _grid(size, 3)])
    return {
        "hidden_states": torch.randn(size.batch, total, CHANNELS, generator=g),
        "timestep": torch.full((size.batch,), 0.5),
        "encoder_hidden_states": torch.randn(size.batch, total, TEXT_DIM, generator=g),
        "position_ids": ids.expand(size.batch, -1, -1),
        "segment_ids": segments,
        "indicator": indicator,
        "return_dict": False,
    }
