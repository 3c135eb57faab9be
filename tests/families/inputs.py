"""What each transformer's forward is given: tensors as its pipeline makes them, drawn at random. Those of pictures."""

from __future__ import annotations

from dataclasses import dataclass
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


def lumina2(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g)[:, :, 0],
        "timestep": torch.full((size.batch,), 0.5),
        "encoder_hidden_states": _text(size, g),
        "encoder_attention_mask": _always(size),
        "return_dict": False,
    }


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
