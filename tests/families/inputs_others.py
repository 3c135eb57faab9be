"""What the forward of each transformer without a family in conf/model is given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from inputs import CHANNELS, HEAD_DIM, LAYERS, POOLED, TEXT_DIM, Config, Size, _always, _latents, _mask, _text, flux
from inputs_films import cogvideox


def auraflow(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g)[:, :, 0],
        "encoder_hidden_states": _text(size, g),
        "timestep": torch.full((size.batch,), 0.5),
        "return_dict": False,
    }


def like_flux(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return flux(config, replace(size, mask="none"), g)


def bria_fibo(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    """Each block is told what a layer of the text encoder says; a mask goes over text and picture."""
    given = like_flux(config, size, g)
    mask = _mask(size)
    whole = None if mask is None else torch.cat([mask, torch.ones(size.batch, size.tokens, dtype=torch.bool)], dim=1)
    return given | {
        "text_encoder_layers": [_text(size, g) for _ in range(2 * LAYERS)],
        "joint_attention_kwargs": None if whole is None else {"attention_mask": whole[:, None, None]},
    }


def cogview(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    sizes = torch.full((size.batch, 2), 64.0)
    return auraflow(config, size, g) | {
        "timestep": torch.full((size.batch,), 500),
        "original_size": sizes,
        "target_size": sizes,
        "crop_coords": torch.zeros(size.batch, 2),
    }


def glm(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    given = cogview(config, size, g)
    del given["original_size"]
    return given | {
        "prior_token_id": torch.randint(8, (size.batch, size.tokens), generator=g),
        "prior_token_drop": torch.zeros(size.batch, size.tokens, dtype=torch.bool),
    }


def hidream(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    layers = [_text(size, g) for _ in range(2 * LAYERS)]
    return {
        "hidden_states": _latents(size, g)[:, :, 0],
        "timesteps": torch.full((size.batch,), 500),
        "encoder_hidden_states_t5": _text(size, g),
        "encoder_hidden_states_llama3": torch.stack(layers),
        "pooled_embeds": torch.randn(size.batch, POOLED, generator=g),
        "return_dict": False,
    }


def pixart(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return auraflow(config, size, g) | {
        "timestep": torch.full((size.batch,), 500),
        "encoder_attention_mask": _always(size).float(),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }


def consisid(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return cogvideox(config, size, g) | {
        "id_cond": torch.randn(size.batch, 6, generator=g),
        "id_vit_hidden": [torch.randn(size.batch, 3, 8, generator=g)],
    }


def easyanimate(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return auraflow(config, size, g) | {"hidden_states": _latents(size, g), "timestep": torch.full((size.batch,), 500)}


def omnigen(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    """The text is causal, the picture sees all; a time token stands between them, and padding first."""
    text, total = size.text, size.text + 1 + size.tokens
    mask = torch.ones(size.batch, total, total).tril()
    mask[:, text + 1 :] = 1
    hidden = _mask(size)
    if hidden is not None:
        mask[:, :, :text] *= hidden.flip(1)[:, None]
    return {
        "hidden_states": _latents(size, g)[:, :, 0],
        "timestep": torch.full((size.batch,), 0.5),
        "input_ids": torch.randint(64, (size.batch, text), generator=g),
        "input_img_latents": [],
        "input_image_sizes": {},
        "attention_mask": mask,
        "position_ids": torch.arange(total).expand(size.batch, -1),
        "return_dict": False,
    }


def prx(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return auraflow(config, size, g) | {"attention_mask": _mask(size)}


def hunyuan_dit(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    """Two texts of fixed lengths; of a mask that hides nothing there is always one."""
    size = replace(size, text=config["text_len"])
    angles = torch.rand(size.tokens, HEAD_DIM // 2, generator=g).repeat_interleave(2, dim=1) * 6
    return auraflow(config, size, g) | {
        "timestep": torch.full((size.batch,), 500.0),
        "text_embedding_mask": _always(size),
        "encoder_hidden_states_t5": torch.randn(size.batch, config["text_len_t5"], 8, generator=g),
        "text_embedding_mask_t5": torch.ones(size.batch, config["text_len_t5"], dtype=torch.bool),
        "image_rotary_emb": (angles.cos(), angles.sin()),
    }


def ernie(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g, patch=1)[:, :, 0],
        "timestep": torch.full((size.batch,), 500.0),
        "text_bth": _text(size, g),
        "text_lens": _always(size).sum(dim=1),
        "return_dict": False,
    }


def framepack(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    """Frames before the ones that are drawn, the older the coarser."""
    guided = {"guidance": torch.full((size.batch,), 6000.0)} if config.get("guidance_embeds", True) else {}

    def history(frames: int) -> torch.Tensor:
        return _latents(replace(size, frames=frames), g)

    return guided | {
        "hidden_states": _latents(size, g),
        "timestep": torch.full((size.batch,), 500),
        "encoder_hidden_states": _text(size, g),
        "encoder_attention_mask": _always(size).long(),
        "pooled_projections": torch.randn(size.batch, POOLED, generator=g),
        "image_embeds": torch.randn(size.batch, 3, 5, generator=g),
        "indices_latents": torch.arange(20, 20 + size.frames),
        "latents_clean": history(1),
        "indices_latents_clean": torch.arange(19, 20),
        "latents_history_2x": history(2),
        "indices_latents_history_2x": torch.arange(17, 19),
        "latents_history_4x": history(16),
        "indices_latents_history_4x": torch.arange(1, 17),
        "return_dict": False,
    }


def minimax(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    """Text, video and sound in one sequence, by their places in it. Its batch is one."""
    audio, total = 5, size.text + size.tokens + 5
    places = torch.randperm(total, generator=g)
    text, video, sound = places.split([size.text, size.tokens, audio])
    tags = torch.zeros(total, dtype=torch.long)
    tags[video], tags[sound] = 1, 2
    return {
        "hidden_states": torch.randn(1, size.tokens, 4 * CHANNELS, generator=g),
        "audio_hidden_states": torch.randn(1, audio, CHANNELS, generator=g),
        "encoder_hidden_states": torch.randn(1, size.text, TEXT_DIM, generator=g),
        "timestep": torch.tensor([500.0, 0.0]),
        "timestep_indices": (tags == 0).long(),
        "token_tags": tags,
        "position_ids": torch.randint(9, (total, 3), generator=g).float(),
        "video_indices": video,
        "audio_indices": sound,
        "text_indices": text,
        "return_dict": False,
    }


def anyflow(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    """Each frame has a time of its own, and one that it is to reach."""
    times = 900 - 100 * torch.arange(size.frames).expand(size.batch, -1)
    return {
        "hidden_states": _latents(size, g).transpose(1, 2),
        "timestep": times,
        "r_timestep": times - 50,
        "encoder_hidden_states": _text(size, g),
        "return_dict": False,
    }


def bria_fibo2(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    """A bundle of text for the gist tokens, whose number follows from its length, and one for each injection."""
    bundles = 1 + len(config["injection_layer_ids"])
    return {
        "hidden_states": _latents(size, g)[:, :, 0],
        "timestep": torch.full((size.batch,), 0.5),
        "encoder_hidden_states": torch.randn(size.batch, bundles, size.text, TEXT_DIM, generator=g),
        "encoder_attention_mask": _mask(size),
        "return_dict": False,
    }


def bria_fibo2_edit(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return bria_fibo2(config, size, g) | {"context_latents": [_latents(size, g)[:, :, 0]]}


def joyimage(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    """Pictures to edit beside the one that is drawn."""
    return {
        "hidden_states": _latents(size, g).transpose(1, 2)[:, :, :, None],
        "timestep": torch.full((size.batch,), 500),
        "encoder_hidden_states": _text(size, g),
        "return_dict": False,
    }


def joyimage_plus(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(size.batch, size.tokens, CHANNELS, 1, 2, 2, generator=g),
        "timestep": torch.full((size.batch,), 500),
        "encoder_hidden_states": _text(size, g),
        "encoder_hidden_states_mask": _mask(size),
        "shape_list": [[(1, size.height, size.width)] * size.frames] * size.batch,
        "return_dict": False,
    }


def kandinsky6_silent(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g, channels=2 * CHANNELS + 1).permute(0, 2, 3, 4, 1),
        "encoder_hidden_states": _text(size, g),
        "encoder_attention_mask": _mask(size),
        "pooled_projections": torch.randn(size.batch, POOLED, generator=g),
        "timestep": torch.full((size.batch,), 500.0),
        "return_dict": False,
    }


def kandinsky6(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    sound = torch.randn(size.batch, size.width, CHANNELS, generator=g)
    return kandinsky6_silent(config, size, g) | {"audio_hidden_states": sound}


def motif(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g),
        "timestep": torch.full((size.batch,), 500.0),
        "encoder_hidden_states": _text(size, g),
        "encoder_attention_mask": _mask(size),
        "return_dict": False,
    }


def motif_i2v(config: Config, size: Size, g: torch.Generator) -> dict[str, Any]:
    return motif(config, size, g) | {"image_embeds": torch.randn(size.batch, size.text, 5, generator=g)}
