"""Tiny transformers of random weights, of diffusers' own classes: no download, a second each."""

from __future__ import annotations

import inputs
import inputs_films as films
from inputs import CHANNELS, HEAD_DIM, HEADS, LAYERS, POOLED, TEXT_DIM, WIDTH, Size
from others import OTHERS
from tiny_model import Tiny, output

__all__ = ["OTHERS", "TINY", "Size", "Tiny", "output"]

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
    "sample_frames": 9, "max_text_seq_length": 8,
}  # fmt: skip

# By name; where a class has ways of working that a plan must know apart, each has a row.
TINY: dict[str, Tiny] = {
    "flux": Tiny(
        "FluxTransformer2DModel",
        inputs.flux,
        {**_FLUX, "pooled_projection_dim": POOLED, "axes_dims_rope": (4, 4, 4), "guidance_embeds": True},
    ),
    "flux_schnell": Tiny(
        "FluxTransformer2DModel", inputs.flux, {**_FLUX, "pooled_projection_dim": POOLED, "axes_dims_rope": (4, 4, 4)}
    ),
    "chroma": Tiny(
        "ChromaTransformer2DModel",
        inputs.flux,
        {
            **_FLUX,
            "axes_dims_rope": (4, 4, 4),
            "approximator_num_channels": 8,
            "approximator_hidden_dim": 8,
            "approximator_layers": 1,
        },
    ),
    "flux2": Tiny(
        "Flux2Transformer2DModel",
        inputs.flux2,
        {**_FLUX, "timestep_guidance_channels": 8, "axes_dims_rope": (4, 4, 2, 2), "guidance_embeds": True},
    ),
    "flux2_klein": Tiny(
        "Flux2Transformer2DModel",
        inputs.flux2,
        {**_FLUX, "timestep_guidance_channels": 8, "axes_dims_rope": (4, 4, 2, 2), "guidance_embeds": False},
    ),
    "flux3": Tiny(
        "Flux3Transformer2DModel",
        inputs.flux3,
        {**_FLUX, "cond_in_channels": CHANNELS, "timestep_channels": 8, "axes_dims_rope": (4, 4, 2, 2)},
    ),
    "qwenimage": Tiny(
        "QwenImageTransformer2DModel",
        inputs.qwen,
        {**_DIT, **_IN, "patch_size": 1, "joint_attention_dim": TEXT_DIM, "axes_dims_rope": (4, 4, 4)},
    ),
    "zimage": Tiny(
        "ZImageTransformer2DModel",
        inputs.zimage,
        {
            "in_channels": CHANNELS,
            "dim": WIDTH,
            "n_layers": LAYERS,
            "n_refiner_layers": 1,
            "n_heads": HEADS,
            "n_kv_heads": HEADS,
            "cap_feat_dim": TEXT_DIM,
            "axes_dims": [4, 4, 4],
            "axes_lens": [256, 64, 64],
        },
    ),
    "wan": Tiny("WanTransformer3DModel", films.wan, _WAN, video=True),
    "wan_i2v": Tiny(
        "WanTransformer3DModel", films.wan, {**_WAN, "image_dim": 6, "added_kv_proj_dim": WIDTH}, video=True
    ),
    "wan_ti2v": Tiny("WanTransformer3DModel", films.wan_per_token, _WAN, video=True),
    "wan_vace": Tiny(
        "WanVACETransformer3DModel", films.wan, {**_WAN, "vace_layers": [0, 1], "vace_in_channels": 6}, video=True
    ),
    "chronoedit": Tiny(
        "ChronoEditTransformer3DModel", films.wan, {**_WAN, "image_dim": 6, "added_kv_proj_dim": WIDTH}, video=True
    ),
    "skyreels_v2": Tiny("SkyReelsV2Transformer3DModel", films.wan, _WAN, video=True),
    "skyreels_v2_df": Tiny("SkyReelsV2Transformer3DModel", films.skyreels_forcing, _WAN, video=True),
    "skyreels_v2_causal": Tiny(
        "SkyReelsV2Transformer3DModel", films.skyreels_forcing, {**_WAN, "num_frame_per_block": 2}, video=True
    ),
    "ltx": Tiny(
        "LTXVideoTransformer3DModel",
        films.ltx,
        {**_DIT, **_IN, "cross_attention_dim": WIDTH, "caption_channels": TEXT_DIM},
        video=True,
    ),
    "ltx2": Tiny(
        "LTX2VideoTransformer3DModel",
        films.ltx2,
        {**_DIT, **_IN, **_AUDIO, "cross_attention_dim": WIDTH, "caption_channels": TEXT_DIM},
        video=True,
    ),
    "hunyuan_video": Tiny(
        "HunyuanVideoTransformer3DModel",
        films.hunyuan,
        {**_HUNYUAN, "num_single_layers": LAYERS, "pooled_projection_dim": POOLED},
        video=True,
    ),
    "hunyuan_video_plain": Tiny(
        "HunyuanVideoTransformer3DModel",
        films.hunyuan,
        {**_HUNYUAN, "num_single_layers": LAYERS, "pooled_projection_dim": POOLED, "guidance_embeds": False},
        video=True,
    ),
    "hunyuan_video_i2v": Tiny(
        "HunyuanVideoTransformer3DModel",
        films.hunyuan,
        {
            **_HUNYUAN,
            "num_single_layers": LAYERS,
            "pooled_projection_dim": POOLED,
            "image_condition_type": "token_replace",
        },
        video=True,
    ),
    "hunyuan_video15": Tiny(
        "HunyuanVideo15Transformer3DModel",
        films.hunyuan15,
        {**_HUNYUAN, "text_embed_2_dim": 6, "image_embed_dim": 5},
        video=True,
    ),
    "hunyuanimage": Tiny(
        "HunyuanImageTransformer2DModel",
        inputs.hunyuanimage,
        {**_HUNYUAN, "num_single_layers": LAYERS, "text_embed_2_dim": 6, "rope_axes_dim": (6, 6)},
    ),
    "hunyuanimage_distilled": Tiny(
        "HunyuanImageTransformer2DModel",
        inputs.hunyuanimage,
        {
            **_HUNYUAN,
            "num_single_layers": LAYERS,
            "text_embed_2_dim": 6,
            "rope_axes_dim": (6, 6),
            "guidance_embeds": True,
            "use_meanflow": True,
        },
    ),
    "sd3": Tiny(
        "SD3Transformer2DModel",
        inputs.sd3,
        {
            **_DIT,
            **_IN,
            "sample_size": 32,
            "joint_attention_dim": TEXT_DIM,
            "caption_projection_dim": WIDTH,
            "pooled_projection_dim": POOLED,
            "pos_embed_max_size": 16,
            "dual_attention_layers": (0,),
            "qk_norm": "rms_norm",
        },
    ),
    "cogvideox": Tiny(
        "CogVideoXTransformer3DModel",
        films.cogvideox,
        {**_COGVIDEOX, "use_rotary_positional_embeddings": True},
        video=True,
    ),
    "cogvideox_2b": Tiny("CogVideoXTransformer3DModel", films.cogvideox, _COGVIDEOX, video=True),
    "lumina2": Tiny(
        "Lumina2Transformer2DModel",
        inputs.lumina2,
        {
            "in_channels": CHANNELS,
            "hidden_size": WIDTH,
            "num_layers": LAYERS,
            "num_refiner_layers": 1,
            "num_attention_heads": HEADS,
            "num_kv_heads": 2,
            "multiple_of": 8,
            "axes_dim_rope": (4, 4, 4),
            "axes_lens": (64, 32, 32),
            "cap_feat_dim": TEXT_DIM,
        },
    ),
    "helios": Tiny("HeliosTransformer3DModel", films.helios, _HELIOS, video=True),
    "helios_amplified": Tiny(
        "HeliosTransformer3DModel",
        films.helios,
        {**_HELIOS, "is_amplify_history": True, "guidance_cross_attn": False},
        video=True,
    ),
    "kandinsky5": Tiny(
        "Kandinsky5Transformer3DModel",
        films.kandinsky,
        {
            "in_visual_dim": CHANNELS,
            "out_visual_dim": CHANNELS,
            "in_text_dim": TEXT_DIM,
            "in_text_dim2": POOLED,
            "time_dim": 8,
            "model_dim": WIDTH,
            "ff_dim": 16,
            "num_text_blocks": 1,
            "num_visual_blocks": LAYERS,
            "axes_dims": (4, 4, 4),
        },
        video=True,
    ),
    "cosmos": Tiny("CosmosTransformer3DModel", films.cosmos, _COSMOS, video=True),
    "cosmos_v2w": Tiny(
        "CosmosTransformer3DModel", films.cosmos_per_frame, {**_COSMOS, "extra_pos_embed_type": None}, video=True
    ),
    "krea2": Tiny(
        "Krea2Transformer2DModel",
        inputs.krea2,
        {
            "in_channels": CHANNELS,
            "num_layers": LAYERS,
            "attention_head_dim": HEAD_DIM,
            "num_attention_heads": HEADS,
            "num_key_value_heads": 2,
            "intermediate_size": 16,
            "timestep_embed_dim": 8,
            "text_hidden_dim": TEXT_DIM,
            "num_text_layers": 3,
            "text_num_attention_heads": 2,
            "text_num_key_value_heads": 2,
            "text_intermediate_size": 16,
            "num_layerwise_text_blocks": 1,
            "num_refiner_text_blocks": 1,
            "axes_dims_rope": (4, 4, 4),
        },
    ),
    "ideogram4": Tiny(
        "Ideogram4Transformer2DModel",
        inputs.ideogram4,
        {
            **_DIT,
            "in_channels": CHANNELS,
            "intermediate_size": 16,
            "adaln_dim": 8,
            "llm_features_dim": TEXT_DIM,
            "mrope_section": (2, 2, 2),
        },
    ),
} | OTHERS
