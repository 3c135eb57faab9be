"""Tiny transformers of classes without a family in conf/model, whose plan is in launcher/families/plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from inputs import (
    CHANNELS,
    HEAD_DIM,
    HEADS,
    LAYERS,
    POOLED,
    TEXT_DIM,
    WIDTH,
    Config,
    Size,
    _always,
    _latents,
    _mask,
    _text,
    cogvideox,
    flux,
)
from tiny_model import Tiny


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


class Gated(Tiny):
    """With an injection of the text that counts: its gate is closed at first, and 0 with any weights."""

    def build(self, dtype: torch.dtype = torch.float32) -> Any:
        model = super().build(dtype)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("cross_attn_gate"):
                    parameter.fill_(0.5)
        return model


_DIT = {"num_attention_heads": HEADS, "attention_head_dim": HEAD_DIM, "num_layers": LAYERS}
_IN = {"in_channels": CHANNELS, "out_channels": CHANNELS}
_FLUX = {
    **_DIT, "in_channels": CHANNELS, "num_single_layers": LAYERS, "joint_attention_dim": TEXT_DIM,
    "axes_dims_rope": (4, 4, 4),
}  # fmt: skip
_COGVIEW = {**_DIT, **_IN, "text_embed_dim": TEXT_DIM, "time_embed_dim": 8, "condition_dim": 4}
_FRAMEPACK = {
    **_DIT, **_IN, "num_single_layers": LAYERS, "num_refiner_layers": 1, "text_embed_dim": TEXT_DIM,
    "pooled_projection_dim": POOLED, "rope_axes_dim": (4, 4, 4), "has_image_proj": True, "image_proj_dim": 5,
    "has_clean_x_embedder": True,
}  # fmt: skip
_FIBO2 = {
    "in_channels": CHANNELS, "dim": WIDTH, "n_layers": LAYERS, "n_refiner_layers": 1, "n_heads": HEADS,
    "cap_feat_dim": TEXT_DIM, "injection_layer_ids": (1,), "perceiver_num_layers": 1, "min_num_gist_tokens": 6,
    "max_num_gist_tokens": 18, "gist_step": 6, "gist_min_text_len": 4, "gist_max_text_len": 12,
    "axes_dims": (4, 4, 4), "axes_lens": (32, 16, 16),
}  # fmt: skip
_JOY = {
    **_IN, "patch_size": [1, 2, 2], "hidden_size": WIDTH, "num_attention_heads": HEADS, "num_layers": LAYERS,
    "text_dim": TEXT_DIM, "mlp_width_ratio": 1.0, "rope_dim_list": [4, 4, 4],
}  # fmt: skip
_KANDINSKY6 = {
    "in_visual_dim": CHANNELS, "out_visual_dim": CHANNELS, "in_text_dim": TEXT_DIM, "in_text_dim2": POOLED,
    "time_dim": 16, "model_dim": WIDTH, "ff_dim": 16, "num_text_blocks": 1, "num_visual_blocks": LAYERS,
    "axes_dims": (4, 4, 4), "in_audio_dim": CHANNELS, "out_audio_dim": CHANNELS, "text_token_padding": True,
    "ca_rope": True, "cross_gates": True, "fix_modulation": True,
}  # fmt: skip
_MOTIF = {**_DIT, **_IN, "mlp_ratio": 1.0, "text_embed_dim": TEXT_DIM, "rope_axes_dim": (4, 4, 4)}

OTHERS: dict[str, Tiny] = {
    "auraflow": Tiny(
        "AuraFlowTransformer2DModel",
        auraflow,
        {
            "num_attention_heads": HEADS,
            "attention_head_dim": HEAD_DIM,
            **_IN,
            "sample_size": 16,
            "num_mmdit_layers": LAYERS,
            "num_single_dit_layers": LAYERS,
            "joint_attention_dim": TEXT_DIM,
            "caption_projection_dim": WIDTH,
        },
    ),
    "bria": Tiny("BriaTransformer2DModel", like_flux, {**_FLUX, "pooled_projection_dim": POOLED}),
    "bria_fibo": Tiny(
        "BriaFiboTransformer2DModel",
        bria_fibo,
        {**_FLUX, "pooled_projection_dim": POOLED, "text_encoder_dim": TEXT_DIM},
    ),
    "bria_fibo_guided": Tiny(
        "BriaFiboTransformer2DModel",
        bria_fibo,
        {**_FLUX, "pooled_projection_dim": POOLED, "text_encoder_dim": TEXT_DIM, "guidance_embeds": True},
    ),
    "longcat_image": Tiny("LongCatImageTransformer2DModel", like_flux, _FLUX),
    "ovis_image": Tiny("OvisImageTransformer2DModel", like_flux, {**_FLUX, "out_channels": CHANNELS}),
    "cogview3plus": Tiny(
        "CogView3PlusTransformer2DModel", cogview, {**_COGVIEW, "pos_embed_max_size": 16, "sample_size": 16}
    ),
    "cogview4": Tiny("CogView4Transformer2DModel", cogview, _COGVIEW),
    "glm_image": Tiny("GlmImageTransformer2DModel", glm, {**_COGVIEW, "prior_vq_quantizer_codebook_size": 8}),
    "hidream": Tiny(
        "HiDreamImageTransformer2DModel",
        hidream,
        {
            **_DIT,
            **_IN,
            "patch_size": 2,
            "num_single_layers": LAYERS,
            "caption_channels": (TEXT_DIM, TEXT_DIM),
            "text_emb_dim": POOLED,
            "axes_dims_rope": (4, 4, 4),
            "max_resolution": (24, 24),
            "llama_layers": [0, 1, 2, 3],
        },
    ),
    "pixart": Tiny(
        "PixArtTransformer2DModel",
        pixart,
        {
            **_DIT,
            "in_channels": CHANNELS,
            "out_channels": CHANNELS,
            "sample_size": 32,
            "cross_attention_dim": WIDTH,
            "caption_channels": TEXT_DIM,
        },
    ),
    "consisid": Tiny(
        "ConsisIDTransformer3DModel",
        consisid,
        {
            **_DIT,
            **_IN,
            "time_embed_dim": 8,
            "text_embed_dim": TEXT_DIM,
            "sample_width": 8,
            "sample_height": 8,
            "sample_frames": 9,
            "max_text_seq_length": 8,
            "use_rotary_positional_embeddings": True,
            "is_train_face": True,
            "cross_attn_interval": 1,
            "cross_attn_dim_head": 8,
            "cross_attn_num_heads": 2,
            "LFE_id_dim": 6,
            "LFE_vit_dim": 8,
            "LFE_depth": 1,
            "LFE_dim_head": 4,
            "LFE_num_heads": 2,
            "LFE_num_id_token": 2,
            "LFE_num_querie": 3,
            "LFE_output_dim": 32,
            "LFE_ff_mult": 1,
            "LFE_num_scale": 1,
        },
        video=True,
    ),
    "easyanimate": Tiny(
        "EasyAnimateTransformer3DModel",
        easyanimate,
        {
            **_DIT,
            **_IN,
            "attention_head_dim": 16,
            "patch_size": 2,
            "mmdit_layers": 1,
            "time_embed_dim": 8,
            "text_embed_dim": TEXT_DIM,
        },
        video=True,
    ),
    "omnigen": Tiny(
        "OmniGenTransformer2DModel",
        omnigen,
        {
            "in_channels": CHANNELS,
            "hidden_size": WIDTH,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "num_layers": LAYERS,
            "intermediate_size": 16,
            "vocab_size": 64,
            "pad_token_id": 0,
            "time_step_dim": 8,
            "pos_embed_max_size": 16,
            "rope_scaling": {"short_factor": [1.0] * 6, "long_factor": [1.0] * 6},
        },
    ),
    "prx": Tiny(
        "PRXTransformer2DModel",
        prx,
        {
            "in_channels": CHANNELS,
            "context_in_dim": TEXT_DIM,
            "hidden_size": WIDTH,
            "num_heads": HEADS,
            "depth": LAYERS,
            "axes_dim": [6, 6],
        },
    ),
    "hunyuan_dit": Tiny(
        "HunyuanDiT2DModel",
        hunyuan_dit,
        {
            **_DIT,
            "num_layers": 4,  # the last of which is told what the first made
            "in_channels": CHANNELS,
            "patch_size": 2,
            "sample_size": 16,
            "hidden_size": WIDTH,
            "cross_attention_dim": TEXT_DIM,
            "cross_attention_dim_t5": 8,
            "pooled_projection_dim": POOLED,
            "text_len": 6,
            "text_len_t5": 4,
            "use_style_cond_and_image_meta_size": False,
        },
    ),
    "ernie_image": Tiny(
        "ErnieImageTransformer2DModel",
        ernie,
        {
            "hidden_size": WIDTH,
            "num_attention_heads": HEADS,
            "num_layers": LAYERS,
            "ffn_hidden_size": 16,
            **_IN,
            "text_in_dim": TEXT_DIM,
            "rope_axes_dim": (4, 4, 4),
        },
    ),
    "framepack": Tiny("HunyuanVideoFramepackTransformer3DModel", framepack, _FRAMEPACK, video=True),
    "framepack_plain": Tiny(
        "HunyuanVideoFramepackTransformer3DModel", framepack, {**_FRAMEPACK, "guidance_embeds": False}, video=True
    ),
    "minimax_h3": Tiny(
        "MiniMaxH3Transformer3DModel",
        minimax,
        {
            **_DIT,
            "hidden_size": WIDTH,
            "num_refiner_layers": 1,
            "ffn_dim": 16,
            "in_channels": CHANNELS,
            "audio_in_channels": CHANNELS,
            "text_dim": TEXT_DIM,
            "freq_dim": 8,
            "time_embed_hidden_dim": 8,
            "time_embed_dim": 8,
            "rope_freq_dim": 2,
        },
        video=True,
    ),
    "anyflow": Tiny(
        "AnyFlowTransformer3DModel",
        anyflow,
        {**_DIT, **_IN, "text_dim": TEXT_DIM, "freq_dim": 8, "ffn_dim": 16},
        video=True,
    ),
    "bria_fibo2": Gated("BriaFibo2Transformer2DModel", bria_fibo2, _FIBO2),
    "bria_fibo2_edit": Gated("BriaFibo2Transformer2DModel", bria_fibo2_edit, _FIBO2),
    "joyimage_edit": Tiny("JoyImageEditTransformer3DModel", joyimage, _JOY, video=True),
    "joyimage_edit_plus": Tiny("JoyImageEditPlusTransformer3DModel", joyimage_plus, _JOY, video=True),
    "kandinsky6": Tiny("Kandinsky6Transformer3DModel", kandinsky6, _KANDINSKY6, video=True),
    "kandinsky6_silent": Tiny("Kandinsky6Transformer3DModel", kandinsky6_silent, _KANDINSKY6, video=True),
    "motif": Tiny("MotifVideoTransformer3DModel", motif, {**_MOTIF, "num_single_layers": LAYERS}, video=True),
    "motif_i2v": Tiny(  # with decoder blocks, and the text attended to once more
        "MotifVideoTransformer3DModel",
        motif_i2v,
        {
            **_MOTIF,
            "num_single_layers": 2 * LAYERS,
            "num_decoder_layers": LAYERS,
            "image_embed_dim": 5,
            "enable_text_cross_attention_dual": True,
            "enable_text_cross_attention_single": True,
        },
        video=True,
    ),
}
