"""Tiny pipelines that make films."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import transformers
from pipeline_parts import (
    CHANNELS,
    SIZES,
    WAN,
    WIDTH,
    chat_tokenizer,
    clip,
    decoder,
    euler,
    glyphs,
    qwen_processor,
    qwen_vl,
    t5,
    unipc,
    wan_vae,
)
from twins import _qwen_tokenizer


def cogvideox() -> Any:
    return diffusers.CogVideoXPipeline(
        **t5(), scheduler=diffusers.CogVideoXDDIMScheduler(),
        vae=diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(4, 4, 4, 4), latent_channels=4, layers_per_block=1, norm_num_groups=2
        ),
        transformer=diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=6, attention_head_dim=16, num_layers=2, **CHANNELS, time_embed_dim=8,
            text_embed_dim=WIDTH, sample_width=8, sample_height=8, sample_frames=9, max_text_seq_length=226,
            use_rotary_positional_embeddings=True,
        ),
    )  # fmt: skip


def hunyuan() -> Any:
    tokenizer = t5()["tokenizer"]
    tokenizer_2, encoder_2 = clip("CLIPTextModel")
    return diffusers.HunyuanVideoPipeline(
        tokenizer=tokenizer, text_encoder=decoder("Llama", tokenizer, 3, "LlamaModel"), tokenizer_2=tokenizer_2,
        text_encoder_2=encoder_2, scheduler=euler(shift=7.0),
        vae=diffusers.AutoencoderKLHunyuanVideo(
            block_out_channels=(4, 4, 4, 4), latent_channels=4, layers_per_block=1, norm_num_groups=2
        ),
        transformer=diffusers.HunyuanVideoTransformer3DModel(
            **SIZES, **CHANNELS, num_single_layers=2, num_refiner_layers=1, text_embed_dim=WIDTH,
            pooled_projection_dim=WIDTH, rope_axes_dim=(4, 4, 4),
        ),
    )  # fmt: skip


def hunyuan_i2v() -> Any:
    """LLaVA reads the prompt in a template with the picture, of which it sees 576 patches."""
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import DEFAULT_PROMPT_TEMPLATE

    marks = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>"]
    tokenizer = _qwen_tokenizer(DEFAULT_PROMPT_TEMPLATE["template"], marks)
    text = {
        "model_type": "llama", "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 32,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    }  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlavaConfig(
        text_config=text, image_token_index=tokenizer.convert_tokens_to_ids("<image>"), vision_feature_layer=-1,
        vision_config={**vision, "model_type": "clip_vision_model", "image_size": 336, "patch_size": 14},
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    base = hunyuan()
    transformer = diffusers.HunyuanVideoTransformer3DModel(
        **{**base.transformer.config, "image_condition_type": "token_replace", "guidance_embeds": True}
    )
    parts = base.components | {"transformer": transformer, "tokenizer": tokenizer}
    return diffusers.HunyuanVideoImageToVideoPipeline(
        **parts | {"text_encoder": transformers.LlavaForConditionalGeneration(config)},
        image_processor=transformers.CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size=336),
    )


def wan22() -> Any:
    return diffusers.WanPipeline(
        **t5("UMT5"), vae=wan_vae(), scheduler=unipc(), transformer=diffusers.WanTransformer3DModel(**WAN),
        transformer_2=diffusers.WanTransformer3DModel(**WAN), boundary_ratio=0.875,
    )  # fmt: skip


def wan22_ti2v() -> Any:
    transformer = diffusers.WanTransformer3DModel(**WAN)
    parts = t5("UMT5")
    return diffusers.WanPipeline(
        **parts, vae=wan_vae(), scheduler=unipc(), transformer=transformer, expand_timesteps=True
    )


def wan_i2v(**more: Any) -> Any:
    """Each token sees the picture's latents and which frames are given; CLIP sees the picture too."""
    vision = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision |= {"image_size": 32, "patch_size": 8}
    return diffusers.WanImageToVideoPipeline(
        **t5("UMT5"), vae=wan_vae(), scheduler=unipc(),
        image_processor=transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32),
        image_encoder=transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**vision)),
        transformer=diffusers.WanTransformer3DModel(**{**WAN, "in_channels": 4 + 4 + 4}, image_dim=WIDTH, **more),
    )  # fmt: skip


def wan_flf2v() -> Any:
    """Two pictures, of 16 tokens and one for all of them each."""
    return wan_i2v(pos_embed_seq_len=2 * 17)


def wan22_i2v() -> Any:
    """Two transformers, neither of which sees what CLIP sees."""
    first, second = (diffusers.WanTransformer3DModel(**{**WAN, "in_channels": 4 + 4 + 4}) for _ in range(2))
    return diffusers.WanImageToVideoPipeline(
        **t5("UMT5"), vae=wan_vae(), scheduler=unipc(), image_processor=None, image_encoder=None,
        transformer=first, transformer_2=second, boundary_ratio=0.9,
    )  # fmt: skip


def vace() -> Any:
    """A stream beside the frames, of what is given of them: two halves of them and the mask, here all unknown."""
    return diffusers.WanVACEPipeline(
        **t5("UMT5"), vae=wan_vae(), scheduler=unipc(),
        transformer=diffusers.WanVACETransformer3DModel(**WAN, vace_layers=[0, 1], vace_in_channels=4 + 4 + 64),
    )  # fmt: skip


def chronoedit() -> Any:
    """Wan's parts; CLIP sees the picture too, by keys of its own."""
    transformer = diffusers.ChronoEditTransformer3DModel(
        **{**WAN, "in_channels": 4 + 4 + 4}, image_dim=WIDTH, added_kv_proj_dim=72
    )
    parts = {**wan_i2v().components, "transformer": transformer, "scheduler": euler(shift=5.0)}
    taken = inspect.signature(diffusers.ChronoEditPipeline.__init__).parameters
    return diffusers.ChronoEditPipeline(**{name: part for name, part in parts.items() if name in taken})


def skyreels() -> Any:
    return diffusers.SkyReelsV2Pipeline(
        **t5("UMT5"), vae=wan_vae(), scheduler=unipc(), transformer=diffusers.SkyReelsV2Transformer3DModel(**WAN)
    )


def skyreels_forcing() -> Any:
    transformer = diffusers.SkyReelsV2Transformer3DModel(**WAN)
    return diffusers.SkyReelsV2DiffusionForcingPipeline(
        **t5("UMT5"), vae=wan_vae(), scheduler=unipc(), transformer=transformer
    )


def helios() -> Any:
    return diffusers.HeliosPipeline(
        **t5("UMT5"), vae=wan_vae(), scheduler=diffusers.HeliosScheduler(scheduler_type="euler", stages=1),
        transformer=diffusers.HeliosTransformer3DModel(**WAN, rope_dim=(4, 4, 4)),
    )  # fmt: skip


def hunyuan15() -> Any:
    return diffusers.HunyuanVideo15Pipeline(
        tokenizer=chat_tokenizer(), **glyphs(), scheduler=euler(shift=5.0),
        text_encoder=transformers.Qwen2_5_VLTextModel(qwen_vl(4).text_config),
        guider=diffusers.ClassifierFreeGuidance(guidance_scale=3.0),
        vae=diffusers.AutoencoderKLHunyuanVideo15(
            block_out_channels=(8, 8, 8, 8, 8), latent_channels=4, layers_per_block=1
        ),
        transformer=diffusers.HunyuanVideo15Transformer3DModel(
            **SIZES, in_channels=9, out_channels=4, num_refiner_layers=1, text_embed_dim=WIDTH, text_embed_2_dim=WIDTH,
            image_embed_dim=8, rope_axes_dim=(4, 4, 4),
        ),
    )  # fmt: skip


def kandinsky() -> Any:
    tokenizer_2, encoder_2 = clip("CLIPTextModel")
    processor = qwen_processor()
    return diffusers.Kandinsky5T2VPipeline(
        tokenizer=processor,
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(qwen_vl(2, processor.tokenizer)),
        tokenizer_2=tokenizer_2, text_encoder_2=encoder_2, scheduler=euler(shift=5.0),
        vae=diffusers.AutoencoderKLHunyuanVideo(
            block_out_channels=(4, 4, 4, 4), latent_channels=4, layers_per_block=1, norm_num_groups=2
        ),
        transformer=diffusers.Kandinsky5Transformer3DModel(
            in_visual_dim=4, out_visual_dim=4, in_text_dim=WIDTH, in_text_dim2=WIDTH, time_dim=8, model_dim=72,
            ff_dim=32, num_text_blocks=1, num_visual_blocks=2, axes_dims=(4, 4, 4),
        ),
    )  # fmt: skip


class Guardrail:
    """Stands for NVIDIA's safety checker, a package with gated weights of 18 GB, which says nothing of the picture."""


def cosmos(pipeline: str, vae: Any, scheduler: Any, **more: Any) -> Any:
    found = getattr(diffusers, pipeline)(
        **t5(), vae=vae, scheduler=scheduler, safety_checker=Guardrail(),
        transformer=diffusers.CosmosTransformer3DModel(
            **SIZES, **CHANNELS, text_embed_dim=WIDTH, adaln_lora_dim=8, max_size=(16, 32, 32),
            concat_padding_mask=False,  # torchvision resizes one
            **more,
        ),
    )  # fmt: skip
    found.register_modules(safety_checker=None)
    return found


def cosmos_video() -> Any:
    vae = diffusers.AutoencoderKLCosmos(
        latent_channels=4, encoder_block_out_channels=(8, 8, 8, 8), decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(8,), resolution=64, num_layers=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    return cosmos("CosmosTextToWorldPipeline", vae, diffusers.EDMEulerScheduler())


def ltx2() -> Any:
    """A film with sound: 16,000 samples a second, of which the vocoder makes 160 for each of 100 mel frames."""
    from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder

    tokenizer = t5()["tokenizer"]
    text = {
        "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    }  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Gemma3Config(
        text_config=text, vision_config={**vision, "image_size": 28, "patch_size": 14}, mm_tokens_per_image=1
    )
    sound = {"sample_rate": 16000, "mel_hop_length": 160, "mel_bins": 8}
    connector = {
        f"{kind}_connector_{key}": value
        for kind in ("video", "audio")
        for key, value in {
            "num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 1, "num_learnable_registers": None
        }.items()
    }  # fmt: skip
    return diffusers.LTX2Pipeline(
        tokenizer=tokenizer, text_encoder=transformers.Gemma3ForConditionalGeneration(config), scheduler=euler(),
        connectors=LTX2TextConnectors(
            caption_channels=WIDTH, text_proj_in_factor=3, **connector, connector_rope_base_seq_len=32,
            rope_theta=10000.0, rope_double_precision=False, causal_temporal_positioning=False, rope_type="split",
        ),
        vae=diffusers.AutoencoderKLLTX2Video(
            latent_channels=4, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(4, 8, 16),
            layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1), upsample_residual=(False,) * 3,
            spatial_compression_ratio=32, temporal_compression_ratio=8,
        ),
        audio_vae=diffusers.AutoencoderKLLTX2Audio(
            base_channels=4, output_channels=2, ch_mult=(1,), num_res_blocks=1, attn_resolutions=None, in_channels=2,
            resolution=32, latent_channels=2, norm_type="pixel", causality_axis="height", dropout=0.0,
            mid_block_add_attention=False, is_causal=True, **sound,
        ),
        vocoder=LTX2Vocoder(
            in_channels=16, hidden_channels=32, out_channels=2, upsample_kernel_sizes=[20, 32],
            upsample_factors=[10, 16], resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]],
            leaky_relu_negative_slope=0.1, output_sampling_rate=16000,
        ),
        transformer=diffusers.LTX2VideoTransformer3DModel(
            **SIZES, **CHANNELS, cross_attention_dim=72, audio_in_channels=4, audio_out_channels=4,
            audio_num_attention_heads=6, audio_attention_head_dim=8, audio_cross_attention_dim=48,
            qk_norm="rms_norm_across_heads", caption_channels=WIDTH, rope_double_precision=False, rope_type="split",
        ),
    )  # fmt: skip
