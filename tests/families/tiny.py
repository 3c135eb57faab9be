"""Tiny transformers of random weights, of diffusers' own classes, and inputs for them: no download, a second each.

Sizes are given in tokens. A mask, where a class takes one, hides the end of every prompt but the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import diffusers
import torch

HEADS, HEAD_DIM, LAYERS = 4, 12, 2
WIDTH = HEADS * HEAD_DIM
TEXT_DIM, POOLED, CHANNELS = 8, 8, 4


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


Inputs = Callable[[Any, Size, torch.Generator], dict[str, Any]]


@dataclass(frozen=True)
class Tiny:
    """A class, the configuration of a tiny one, and what its forward is given."""

    kind: str
    inputs: Inputs
    config: dict[str, Any] = field(default_factory=dict)
    video: bool = False

    def build(self, dtype: torch.dtype = torch.float32) -> Any:
        """The model, with weights that make every part of it count: with the usual ones attention hardly shows."""
        torch.manual_seed(0)
        model = getattr(diffusers, self.kind)(**self.config)
        with torch.no_grad():
            for name, parameter in sorted(model.named_parameters()):
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
                elif "bias" in name or "pad_token" in name or "scale" in name:
                    torch.nn.init.normal_(parameter, std=0.1)
        return (model if dtype == torch.float32 else model.to(dtype)).eval()

    def given(self, size: Size) -> dict[str, Any]:
        """Arguments of the model's forward, drawn from the size alone."""
        size = size if self.video else replace(size, frames=1)
        generator = torch.Generator().manual_seed(hash((size.tokens, size.text, size.batch)) % 2**31)
        return self.inputs(self, size, generator)


def output(result: Any) -> torch.Tensor:
    """All that a forward gives, as one row of numbers."""
    found: list[torch.Tensor] = []

    def walk(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            found.append(item.detach().double().flatten())
        elif isinstance(item, list | tuple):
            for each in item:
                walk(each)

    walk(result)
    return torch.cat(found)


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


def _flux(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    given = {
        "hidden_states": torch.randn(size.batch, size.tokens, CHANNELS, generator=g),
        "encoder_hidden_states": _text(size, g),
        "timestep": torch.full((size.batch,), 0.5),
        "img_ids": _grid(size, 3),
        "txt_ids": torch.zeros(size.text, 3),
        "return_dict": False,
    }
    if tiny.kind == "FluxTransformer2DModel":
        given["pooled_projections"] = torch.randn(size.batch, POOLED, generator=g)
        if tiny.config.get("guidance_embeds"):
            given["guidance"] = torch.full((size.batch,), 3.5)
    elif (mask := _mask(size)) is not None:  # Chroma: text first, as its pipeline makes it
        given["attention_mask"] = torch.cat([mask, torch.ones(size.batch, size.tokens, dtype=torch.bool)], dim=1)
    return given


def _flux2(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    ids = _grid(size, 4, first=1)
    text_ids = torch.zeros(size.text, 4)
    text_ids[:, 3] = torch.arange(size.text)
    given = {
        "hidden_states": torch.randn(size.batch, size.tokens, CHANNELS, generator=g),
        "encoder_hidden_states": _text(size, g),
        "timestep": torch.full((size.batch,), 0.5),
        "img_ids": ids.expand(size.batch, -1, -1) if tiny.kind.startswith("Flux2") else ids,
        "txt_ids": text_ids.expand(size.batch, -1, -1) if tiny.kind.startswith("Flux2") else text_ids,
        "return_dict": False,
    }
    if tiny.config.get("guidance_embeds"):
        given["guidance"] = torch.full((size.batch,), 3.5)
    if tiny.kind.startswith("Flux3"):
        given["image_cond_hidden_states"] = torch.randn(size.batch, 8, CHANNELS, generator=g)
        given["image_cond_ids"] = torch.ones(8, 4)
    return given


def _qwen(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(size.batch, size.tokens, CHANNELS, generator=g),
        "encoder_hidden_states": _text(size, g),
        "encoder_hidden_states_mask": _mask(size),
        "timestep": torch.full((size.batch,), 0.5),
        "img_shapes": [[(size.frames, size.height, size.width)]] * size.batch,
        "return_dict": False,
    }


def _zimage(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    lengths = [max(1, size.text - 3 * n * (size.mask == "partial") * 11) for n in range(size.batch)]
    return {
        "x": list(_latents(size, g).unbind(0)),
        "t": torch.full((size.batch,), 0.5),
        "cap_feats": [torch.randn(length, TEXT_DIM, generator=g) for length in lengths],
        "return_dict": False,
    }


def _wan(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    given = {
        "hidden_states": _latents(size, g),
        "encoder_hidden_states": _text(size, g),
        "timestep": torch.full((size.batch,), 500),
        "return_dict": False,
    }
    if tiny.config.get("image_dim"):
        given["encoder_hidden_states_image"] = torch.randn(size.batch, 5, tiny.config["image_dim"], generator=g)
    if tiny.kind == "WanVACETransformer3DModel":
        given["control_hidden_states"] = _latents(size, g, channels=tiny.config["vace_in_channels"])
    return given


def _wan_per_token(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    """Wan 2.2 TI2V: each token has a time of its own, zero for the given picture's."""
    times = torch.full((size.batch, size.tokens), 500)
    times[:, : size.height * size.width] = 0
    return _wan(tiny, size, g) | {"timestep": times}


def _skyreels(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    return _wan(tiny, size, g)


def _skyreels_forcing(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    """Diffusion forcing: a time for each latent frame, and frames of a block see earlier blocks only."""
    times = torch.arange(size.frames).expand(size.batch, -1) * 100
    return _wan(tiny, size, g) | {"timestep": times, "enable_diffusion_forcing": True}


def _ltx(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
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


def _ltx2(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    audio = 2 * size.frames + 3
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


def _hunyuan(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g),
        "timestep": torch.full((size.batch,), 500),
        "encoder_hidden_states": _text(size, g),
        "encoder_attention_mask": _always(size).long(),
        "pooled_projections": torch.randn(size.batch, POOLED, generator=g),
        "guidance": torch.full((size.batch,), 6000.0),
        "return_dict": False,
    }


def _hunyuan15(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
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


def _hunyuanimage(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g, patch=1)[:, :, 0],
        "timestep": torch.full((size.batch,), 500.0),
        "encoder_hidden_states": _text(size, g),
        "encoder_attention_mask": _always(size).long(),
        "encoder_hidden_states_2": _text(size, g, dim=6)[:, :3],
        "encoder_attention_mask_2": _always(size).long()[:, -3:],
        "return_dict": False,
    }


def _sd3(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g)[:, :, 0],
        "encoder_hidden_states": _text(size, g),
        "pooled_projections": torch.randn(size.batch, POOLED, generator=g),
        "timestep": torch.full((size.batch,), 500),
        "return_dict": False,
    }


def _cogvideox(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    rotary = None
    if not tiny.config.get("use_rotary_positional_embeddings"):
        size = replace(size, text=tiny.config["max_text_seq_length"])  # positions for the text are added, all of them
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


def _lumina2(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g)[:, :, 0],
        "timestep": torch.full((size.batch,), 0.5),
        "encoder_hidden_states": _text(size, g),
        "encoder_attention_mask": _always(size),
        "return_dict": False,
    }


def _helios(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
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


def _kandinsky(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g).permute(0, 2, 3, 4, 1),
        "encoder_hidden_states": _text(size, g),
        "timestep": torch.full((size.batch,), 500.0),
        "pooled_projections": torch.randn(size.batch, POOLED, generator=g),
        "visual_rope_pos": [torch.arange(n) for n in (size.frames, size.height, size.width)],
        "text_rope_pos": torch.arange(size.text),
        "return_dict": False,
    }


def _cosmos(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": _latents(size, g),
        "timestep": torch.full((size.batch,), 0.5),
        "encoder_hidden_states": _text(size, g),
        "attention_mask": _mask(size),
        "fps": 16,
        "return_dict": False,
    }


def _cosmos_per_frame(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    """Video to world: each latent frame has a time of its own."""
    times = (torch.arange(size.frames).float() / 10).view(1, 1, -1, 1, 1).expand(size.batch, -1, -1, -1, -1)
    return _cosmos(tiny, size, g) | {"timestep": times}


def _krea2(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(size.batch, size.tokens, CHANNELS, generator=g),
        "encoder_hidden_states": torch.randn(size.batch, size.text, 3, TEXT_DIM, generator=g),
        "timestep": torch.full((size.batch,), 0.5),
        "position_ids": torch.cat([torch.zeros(size.text, 3), _grid(size, 3)]),
        "encoder_attention_mask": _mask(size),
        "return_dict": False,
    }


def _ideogram4(tiny: Tiny, size: Size, g: torch.Generator) -> dict[str, Any]:
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


_DIT = {"num_attention_heads": HEADS, "attention_head_dim": HEAD_DIM, "num_layers": LAYERS}
_IN = {"in_channels": CHANNELS, "out_channels": CHANNELS}
_FLUX = {**_DIT, "in_channels": CHANNELS, "num_single_layers": LAYERS, "joint_attention_dim": TEXT_DIM}
_WAN = {**_DIT, **_IN, "text_dim": TEXT_DIM, "freq_dim": 8, "ffn_dim": 16}
_HELIOS = {**_WAN, "rope_dim": (4, 4, 4)}
_HUNYUAN = {**_DIT, **_IN, "num_refiner_layers": 1, "text_embed_dim": TEXT_DIM, "rope_axes_dim": (4, 4, 4)}
_AUDIO = {
    "audio_in_channels": CHANNELS, "audio_out_channels": CHANNELS, "audio_num_attention_heads": HEADS,
    "audio_attention_head_dim": 6, "audio_cross_attention_dim": HEADS * 6,
}  # fmt: skip
_COSMOS = {
    **_DIT,
    **_IN,
    "text_embed_dim": TEXT_DIM,
    "adaln_lora_dim": 8,
    "max_size": (8, 16, 16),
    "concat_padding_mask": False,
}
_COGVIDEOX = {
    **_DIT, **_IN, "time_embed_dim": 8, "text_embed_dim": TEXT_DIM, "sample_width": 8, "sample_height": 8,
    "sample_frames": 9, "max_text_seq_length": 7,
}  # fmt: skip
_SKYREELS = {**_WAN, "inject_sample_info": False}

# By name; where a class has ways of working that a plan must know apart, each has a row.
TINY: dict[str, Tiny] = {
    "flux": Tiny("FluxTransformer2DModel", _flux, {**_FLUX, "pooled_projection_dim": POOLED, "axes_dims_rope": (4, 4, 4), "guidance_embeds": True}),
    "chroma": Tiny("ChromaTransformer2DModel", _flux, {**_FLUX, "axes_dims_rope": (4, 4, 4), "approximator_num_channels": 8, "approximator_hidden_dim": 8, "approximator_layers": 1}),
    "flux2": Tiny("Flux2Transformer2DModel", _flux2, {**_FLUX, "timestep_guidance_channels": 8, "axes_dims_rope": (4, 4, 2, 2), "guidance_embeds": True}),
    "flux3": Tiny("Flux3Transformer2DModel", _flux2, {**_FLUX, "cond_in_channels": CHANNELS, "timestep_channels": 8, "axes_dims_rope": (4, 4, 2, 2)}),
    "qwenimage": Tiny("QwenImageTransformer2DModel", _qwen, {**_DIT, **_IN, "patch_size": 1, "joint_attention_dim": TEXT_DIM, "axes_dims_rope": (4, 4, 4)}),
    "zimage": Tiny("ZImageTransformer2DModel", _zimage, {"in_channels": CHANNELS, "dim": WIDTH, "n_layers": LAYERS, "n_refiner_layers": 1, "n_heads": HEADS, "n_kv_heads": HEADS, "cap_feat_dim": TEXT_DIM, "axes_dims": [4, 4, 4], "axes_lens": [256, 64, 64]}),
    "wan": Tiny("WanTransformer3DModel", _wan, _WAN, video=True),
    "wan_i2v": Tiny("WanTransformer3DModel", _wan, {**_WAN, "image_dim": 6, "added_kv_proj_dim": WIDTH}, video=True),
    "wan_ti2v": Tiny("WanTransformer3DModel", _wan_per_token, _WAN, video=True),
    "wan_vace": Tiny("WanVACETransformer3DModel", _wan, {**_WAN, "vace_layers": [0, 1], "vace_in_channels": 6}, video=True),
    "chronoedit": Tiny("ChronoEditTransformer3DModel", _wan, {**_WAN, "image_dim": 6, "added_kv_proj_dim": WIDTH}, video=True),
    "skyreels_v2": Tiny("SkyReelsV2Transformer3DModel", _skyreels, _SKYREELS, video=True),
    "skyreels_v2_df": Tiny("SkyReelsV2Transformer3DModel", _skyreels_forcing, _SKYREELS, video=True),
    "skyreels_v2_causal": Tiny("SkyReelsV2Transformer3DModel", _skyreels_forcing, {**_SKYREELS, "num_frame_per_block": 2}, video=True),
    "ltx": Tiny("LTXVideoTransformer3DModel", _ltx, {**_DIT, **_IN, "cross_attention_dim": WIDTH, "caption_channels": TEXT_DIM}, video=True),
    "ltx2": Tiny("LTX2VideoTransformer3DModel", _ltx2, {**_DIT, **_IN, **_AUDIO, "cross_attention_dim": WIDTH, "caption_channels": TEXT_DIM}, video=True),
    "hunyuan_video": Tiny("HunyuanVideoTransformer3DModel", _hunyuan, {**_HUNYUAN, "num_single_layers": LAYERS, "pooled_projection_dim": POOLED}, video=True),
    "hunyuan_video_i2v": Tiny("HunyuanVideoTransformer3DModel", _hunyuan, {**_HUNYUAN, "num_single_layers": LAYERS, "pooled_projection_dim": POOLED, "image_condition_type": "token_replace"}, video=True),
    "hunyuan_video15": Tiny("HunyuanVideo15Transformer3DModel", _hunyuan15, {**_HUNYUAN, "text_embed_2_dim": 6, "image_embed_dim": 5}, video=True),
    "hunyuanimage": Tiny("HunyuanImageTransformer2DModel", _hunyuanimage, {**_HUNYUAN, "num_single_layers": LAYERS, "text_embed_2_dim": 6, "rope_axes_dim": (6, 6)}),
    "sd3": Tiny("SD3Transformer2DModel", _sd3, {**_DIT, **_IN, "sample_size": 32, "joint_attention_dim": TEXT_DIM, "caption_projection_dim": WIDTH, "pooled_projection_dim": POOLED, "pos_embed_max_size": 16, "dual_attention_layers": (0,), "qk_norm": "rms_norm"}),
    "cogvideox": Tiny("CogVideoXTransformer3DModel", _cogvideox, {**_COGVIDEOX, "use_rotary_positional_embeddings": True}, video=True),
    "cogvideox_2b": Tiny("CogVideoXTransformer3DModel", _cogvideox, _COGVIDEOX, video=True),
    "lumina2": Tiny("Lumina2Transformer2DModel", _lumina2, {"in_channels": CHANNELS, "hidden_size": WIDTH, "num_layers": LAYERS, "num_refiner_layers": 1, "num_attention_heads": HEADS, "num_kv_heads": 2, "multiple_of": 8, "axes_dim_rope": (4, 4, 4), "axes_lens": (64, 32, 32), "cap_feat_dim": TEXT_DIM}),
    "helios": Tiny("HeliosTransformer3DModel", _helios, _HELIOS, video=True),
    "helios_amplified": Tiny("HeliosTransformer3DModel", _helios, {**_HELIOS, "is_amplify_history": True, "guidance_cross_attn": False}, video=True),
    "kandinsky5": Tiny("Kandinsky5Transformer3DModel", _kandinsky, {"in_visual_dim": CHANNELS, "out_visual_dim": CHANNELS, "in_text_dim": TEXT_DIM, "in_text_dim2": POOLED, "time_dim": 8, "model_dim": WIDTH, "ff_dim": 16, "num_text_blocks": 1, "num_visual_blocks": LAYERS, "axes_dims": (4, 4, 4)}, video=True),
    "cosmos": Tiny("CosmosTransformer3DModel", _cosmos, _COSMOS, video=True),
    "cosmos_v2w": Tiny("CosmosTransformer3DModel", _cosmos_per_frame, {**_COSMOS, "extra_pos_embed_type": None}, video=True),
    "krea2": Tiny("Krea2Transformer2DModel", _krea2, {"in_channels": CHANNELS, "num_layers": LAYERS, "attention_head_dim": HEAD_DIM, "num_attention_heads": HEADS, "num_key_value_heads": 2, "intermediate_size": 16, "timestep_embed_dim": 8, "text_hidden_dim": TEXT_DIM, "num_text_layers": 3, "text_num_attention_heads": 2, "text_num_key_value_heads": 2, "text_intermediate_size": 16, "num_layerwise_text_blocks": 1, "num_refiner_text_blocks": 1, "axes_dims_rope": (4, 4, 4)}),
    "ideogram4": Tiny("Ideogram4Transformer2DModel", _ideogram4, {**_DIT, "in_channels": CHANNELS, "intermediate_size": 16, "adaln_dim": 8, "llm_features_dim": TEXT_DIM, "mrope_section": (2, 2, 2)}),
}  # fmt: skip
