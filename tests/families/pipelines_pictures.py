"""Tiny pipelines that make pictures."""

from __future__ import annotations

from typing import Any

import diffusers
import transformers
from pipeline_parts import (
    CHANNELS,
    CHAT,
    FLUX,
    PLACES,
    SIZES,
    WIDTH,
    chat_tokenizer,
    clip,
    decoder,
    euler,
    flux2_vae,
    glyphs,
    kl,
    qwen3_vl,
    qwen_processor,
    qwen_vl,
    t5,
    wan_vae,
)
from pipelines_films import cosmos, kandinsky
from twins import _qwen_tokenizer


def sd35() -> Any:
    parts = t5(width=2 * WIDTH)
    tokenizer, encoder = clip()
    tokenizer_2, encoder_2 = clip()
    return diffusers.StableDiffusion3Pipeline(
        tokenizer=tokenizer, text_encoder=encoder, tokenizer_2=tokenizer_2, text_encoder_2=encoder_2,
        tokenizer_3=parts["tokenizer"], text_encoder_3=parts["text_encoder"], vae=kl(), scheduler=euler(),
        transformer=diffusers.SD3Transformer2DModel(
            **SIZES, **CHANNELS, sample_size=32, joint_attention_dim=2 * WIDTH, caption_projection_dim=72,
            pooled_projection_dim=2 * WIDTH, pos_embed_max_size=96, dual_attention_layers=(0,), qk_norm="rms_norm",
        ),
    )  # fmt: skip


def chroma() -> Any:
    return diffusers.ChromaPipeline(
        **t5(), vae=kl(), scheduler=euler(use_dynamic_shifting=True),
        transformer=diffusers.ChromaTransformer2DModel(
            **FLUX, axes_dims_rope=(4, 4, 4), approximator_num_channels=8, approximator_hidden_dim=8,
            approximator_layers=1,
        ),
    )  # fmt: skip


def auraflow() -> Any:
    """Of no family: run by model.path= alone."""
    return diffusers.AuraFlowPipeline(
        **t5("UMT5"), vae=kl(), scheduler=euler(),
        transformer=diffusers.AuraFlowTransformer2DModel(
            num_attention_heads=6, attention_head_dim=12, **CHANNELS, sample_size=16, num_mmdit_layers=2,
            num_single_dit_layers=2, joint_attention_dim=WIDTH, caption_projection_dim=72, pos_embed_max_size=256,
        ),
    )  # fmt: skip


def pixart() -> Any:
    """Of no family: the test brings its model file."""
    return diffusers.PixArtSigmaPipeline(
        **t5(), vae=kl(), scheduler=diffusers.DPMSolverMultistepScheduler(),
        transformer=diffusers.PixArtTransformer2DModel(
            num_attention_heads=6, attention_head_dim=12, num_layers=2, in_channels=4, out_channels=8, sample_size=32,
            cross_attention_dim=72, caption_channels=WIDTH,
        ),
    )  # fmt: skip


def flux(pipeline: str, channels: int) -> Any:
    parts, (tokenizer, encoder) = t5(), clip("CLIPTextModel")
    return getattr(diffusers, pipeline)(
        tokenizer=tokenizer, text_encoder=encoder, tokenizer_2=parts["tokenizer"], text_encoder_2=parts["text_encoder"],
        vae=kl(), scheduler=euler(use_dynamic_shifting=True),
        transformer=diffusers.FluxTransformer2DModel(
            **{**FLUX, "in_channels": channels}, out_channels=16, axes_dims_rope=(4, 4, 4), guidance_embeds=True,
            pooled_projection_dim=WIDTH,
        ),
    )  # fmt: skip


def kontext() -> Any:
    return flux("FluxKontextPipeline", 16)


def fill() -> Any:
    """What is drawn, the picture without what is masked, and the mask: 64 pixels of each latent, 4 latents a token."""
    return flux("FluxFillPipeline", 16 + 16 + 4 * 64)


def klein() -> Any:
    tokenizer = chat_tokenizer()
    return diffusers.Flux2KleinPipeline(
        tokenizer=tokenizer, text_encoder=decoder("Qwen3", tokenizer, 28, "Qwen3ForCausalLM"), is_distilled=True,
        scheduler=euler(use_dynamic_shifting=True),
        vae=flux2_vae(),
        transformer=diffusers.Flux2Transformer2DModel(
            **{**FLUX, "joint_attention_dim": 3 * WIDTH}, timestep_guidance_channels=8, axes_dims_rope=(4, 4, 2, 2),
            guidance_embeds=False,
        ),
    )  # fmt: skip


def flux2() -> Any:
    """Its processor needs torchvision, for pictures; a tokenizer is in it."""
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = CHAT.replace("message.content", "message.content[0].text")
    text = {
        "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 30, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "vocab_size": len(tokenizer),
    }  # fmt: skip
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Mistral3Config(
        text_config={"model_type": "mistral", **text},
        vision_config={"model_type": "pixtral", **vision, "image_size": 28, "patch_size": 14, "head_dim": 8},
    )
    return diffusers.Flux2Pipeline(
        tokenizer=tokenizer, text_encoder=transformers.Mistral3ForConditionalGeneration(config), vae=flux2_vae(),
        scheduler=euler(use_dynamic_shifting=True),
        transformer=diffusers.Flux2Transformer2DModel(
            **{**FLUX, "joint_attention_dim": 3 * WIDTH}, timestep_guidance_channels=8, axes_dims_rope=(4, 4, 2, 2),
        ),
    )  # fmt: skip


def zimage() -> Any:
    tokenizer = chat_tokenizer()
    return diffusers.ZImagePipeline(
        tokenizer=tokenizer, text_encoder=decoder("Qwen3", tokenizer, 2, "Qwen3Model"), vae=kl(),
        scheduler=euler(use_dynamic_shifting=True),
        transformer=diffusers.ZImageTransformer2DModel(
            in_channels=4, dim=72, n_layers=2, n_refiner_layers=1, n_heads=6, n_kv_heads=6, cap_feat_dim=WIDTH,
            axes_dims=[4, 4, 4], axes_lens=[1024, 64, 64],
        ),
    )  # fmt: skip


def lumina2() -> Any:
    tokenizer = t5()["tokenizer"]
    return diffusers.Lumina2Pipeline(
        tokenizer=tokenizer, text_encoder=decoder("Gemma2", tokenizer, 2, "Gemma2Model"), vae=kl(),
        scheduler=euler(),
        transformer=diffusers.Lumina2Transformer2DModel(
            in_channels=4, hidden_size=72, num_layers=2, num_refiner_layers=1, num_attention_heads=6, num_kv_heads=2,
            multiple_of=8, axes_dim_rope=(4, 4, 4), axes_lens=(300, 64, 64), cap_feat_dim=WIDTH,
        ),
    )  # fmt: skip


def qwen_edit(pipeline: str = "QwenImageEditPipeline") -> Any:
    """QwenImage's twin, whose text encoder sees the picture too."""
    import twins

    base = twins.FAMILIES["qwenimage"]()
    template = getattr(diffusers, pipeline)(*[None] * 6).prompt_template_encode
    processor = qwen_processor(template)
    tokenizer, config = processor.tokenizer, base.text_encoder.config
    config.text_config.vocab_size = len(tokenizer)
    for name, word in zip(("vision_start", "vision_end", "image", "video"), PLACES, strict=True):
        setattr(config, f"{name}_token_id", tokenizer.convert_tokens_to_ids(word))
    return getattr(diffusers, pipeline)(
        tokenizer=tokenizer, text_encoder=type(base.text_encoder)(config), vae=base.vae, scheduler=base.scheduler,
        transformer=base.transformer, processor=processor,
    )  # fmt: skip


def qwen_edit_plus() -> Any:
    return qwen_edit("QwenImageEditPlusPipeline")


def krea2() -> Any:
    tokenizer = _qwen_tokenizer()
    return diffusers.Krea2Pipeline(
        tokenizer=tokenizer, text_encoder=qwen3_vl(tokenizer, 4),
        scheduler=euler(use_dynamic_shifting=True), text_encoder_select_layers=[1, 2, 3],
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
        ),
        transformer=diffusers.Krea2Transformer2DModel(
            **SIZES, in_channels=16, num_key_value_heads=2, intermediate_size=32, timestep_embed_dim=8,
            text_hidden_dim=WIDTH, num_text_layers=3, text_num_attention_heads=2, text_num_key_value_heads=2,
            text_intermediate_size=32, num_layerwise_text_blocks=1, num_refiner_text_blocks=1, axes_dims_rope=(4, 4, 4),
        ),
    )  # fmt: skip


def hunyuan_image() -> Any:
    return diffusers.HunyuanImagePipeline(
        tokenizer=chat_tokenizer(), **glyphs(), scheduler=euler(shift=5.0),
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(qwen_vl(4)),
        vae=diffusers.AutoencoderKLHunyuanImage(
            in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32, 32, 32, 32, 32),
            layers_per_block=1, spatial_compression_ratio=32, sample_size=64, scaling_factor=1.0,
        ),
        transformer=diffusers.HunyuanImageTransformer2DModel(
            **SIZES, **CHANNELS, num_single_layers=2, num_refiner_layers=1, text_embed_dim=WIDTH,
            text_embed_2_dim=WIDTH, rope_axes_dim=(6, 6),
        ),
    )  # fmt: skip


def kandinsky_picture() -> Any:
    base = kandinsky()
    parts = {name: part for name, part in base.components.items() if name != "vae"}
    return diffusers.Kandinsky5T2IPipeline(**parts, vae=kl())


def ideogram4() -> Any:
    """Two transformers: of the prompt and the picture in one sequence, and of the picture alone."""
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = CHAT.replace("message.content", "message.content[0].text")
    first, second = (
        diffusers.Ideogram4Transformer2DModel(
            **SIZES, in_channels=16, intermediate_size=32, adaln_dim=8, llm_features_dim=13 * WIDTH,
            mrope_section=(2, 2, 2),
        )
        for _ in range(2)
    )  # fmt: skip
    return diffusers.Ideogram4Pipeline(
        tokenizer=tokenizer, text_encoder=qwen3_vl(tokenizer, 36), vae=flux2_vae(), scheduler=euler(),
        transformer=first, unconditional_transformer=second,
    )  # fmt: skip


def cosmos2_picture() -> Any:
    return cosmos("Cosmos2TextToImagePipeline", wan_vae(), euler(use_karras_sigmas=True))
