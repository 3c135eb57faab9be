"""Tiny transformers of classes without a family in conf/model, whose plan is in launcher/families/plans."""

from __future__ import annotations

from typing import Any

import inputs_others as inputs
import torch
from inputs import CHANNELS, HEAD_DIM, HEADS, LAYERS, POOLED, TEXT_DIM, WIDTH
from tiny_model import Tiny


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
        inputs.auraflow,
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
    "bria": Tiny("BriaTransformer2DModel", inputs.like_flux, {**_FLUX, "pooled_projection_dim": POOLED}),
    "bria_fibo": Tiny(
        "BriaFiboTransformer2DModel",
        inputs.bria_fibo,
        {**_FLUX, "pooled_projection_dim": POOLED, "text_encoder_dim": TEXT_DIM},
    ),
    "bria_fibo_guided": Tiny(
        "BriaFiboTransformer2DModel",
        inputs.bria_fibo,
        {**_FLUX, "pooled_projection_dim": POOLED, "text_encoder_dim": TEXT_DIM, "guidance_embeds": True},
    ),
    "longcat_image": Tiny("LongCatImageTransformer2DModel", inputs.like_flux, _FLUX),
    "ovis_image": Tiny("OvisImageTransformer2DModel", inputs.like_flux, {**_FLUX, "out_channels": CHANNELS}),
    "cogview3plus": Tiny(
        "CogView3PlusTransformer2DModel", inputs.cogview, {**_COGVIEW, "pos_embed_max_size": 16, "sample_size": 16}
    ),
    "cogview4": Tiny("CogView4Transformer2DModel", inputs.cogview, _COGVIEW),
    "glm_image": Tiny("GlmImageTransformer2DModel", inputs.glm, {**_COGVIEW, "prior_vq_quantizer_codebook_size": 8}),
    "hidream": Tiny(
        "HiDreamImageTransformer2DModel",
        inputs.hidream,
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
        inputs.pixart,
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
        inputs.consisid,
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
        inputs.easyanimate,
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
        inputs.omnigen,
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
        inputs.prx,
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
        inputs.hunyuan_dit,
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
        inputs.ernie,
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
    "framepack": Tiny("HunyuanVideoFramepackTransformer3DModel", inputs.framepack, _FRAMEPACK, video=True),
    "framepack_plain": Tiny(
        "HunyuanVideoFramepackTransformer3DModel",
        inputs.framepack,
        {**_FRAMEPACK, "guidance_embeds": False},
        video=True,
    ),
    "minimax_h3": Tiny(
        "MiniMaxH3Transformer3DModel",
        inputs.minimax,
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
        inputs.anyflow,
        {**_DIT, **_IN, "text_dim": TEXT_DIM, "freq_dim": 8, "ffn_dim": 16},
        video=True,
    ),
    "bria_fibo2": Gated("BriaFibo2Transformer2DModel", inputs.bria_fibo2, _FIBO2),
    "bria_fibo2_edit": Gated("BriaFibo2Transformer2DModel", inputs.bria_fibo2_edit, _FIBO2),
    "joyimage_edit": Tiny("JoyImageEditTransformer3DModel", inputs.joyimage, _JOY, video=True),
    "joyimage_edit_plus": Tiny("JoyImageEditPlusTransformer3DModel", inputs.joyimage_plus, _JOY, video=True),
    "kandinsky6": Tiny("Kandinsky6Transformer3DModel", inputs.kandinsky6, _KANDINSKY6, video=True),
    "kandinsky6_silent": Tiny("Kandinsky6Transformer3DModel", inputs.kandinsky6_silent, _KANDINSKY6, video=True),
    "motif": Tiny("MotifVideoTransformer3DModel", inputs.motif, {**_MOTIF, "num_single_layers": LAYERS}, video=True),
    "motif_i2v": Tiny(  # with decoder blocks, and the text attended to once more
        "MotifVideoTransformer3DModel",
        inputs.motif_i2v,
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
