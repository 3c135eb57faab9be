"""Tiny pipelines of random weights for the launcher's own path, of diffusers' classes: no download, a megabyte each.

Their transformers are those of miniatures.py, with 6 heads as the launcher's other twins have.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from twins import _make_random, _qwen_tokenizer

from launcher.families.weights import BUNDLED

WIDTH = 32  # of every text encoder
SIZES = {"num_attention_heads": 6, "attention_head_dim": 12, "num_layers": 2}
CHANNELS = {"in_channels": 4, "out_channels": 4}
FACTS = ["model.heads=6", "model.head_dim=12", "model.layers=2"]
CHAT = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"


def build(name: str, folder: Path) -> Path:
    """Save a family's tiny pipeline in `folder` and return it."""
    torch.manual_seed(0)
    pipe = _pixart() if name == OWN else (PIPELINES | STARTING)[name][0]()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            _make_random(part)
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


def own_files(folder: Path) -> Path:
    """A folder for --config-dir, with the model file of a family that conf/ does not have."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / f"{OWN}.yaml").write_text(OWN_FILE, encoding="utf-8")
    return folder


def words(name: str, folder: Path) -> list[str]:
    """What a request for it needs: its model file, its folder, and the facts in which it differs."""
    if name in UNNAMED:
        return [f"model.path={folder}", *PIPELINES[name][1]]
    return [f"model={name}", f"model.path={folder}", *FACTS, *(PIPELINES | STARTING)[name][1]]


def _t5(kind: str = "T5", width: int = WIDTH) -> dict[str, Any]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(BUNDLED / "tokenizer_2")
    sizes = {"d_model": width, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4}
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokenizer), **sizes)
    return {"tokenizer": tokenizer, "text_encoder": getattr(transformers, f"{kind}EncoderModel")(config)}


def _clip(kind: str = "CLIPTextModelWithProjection") -> tuple[Any, Any]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(BUNDLED / "tokenizer")
    tokenizer.model_max_length = 77
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        projection_dim=WIDTH, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id or 0,
    )  # fmt: skip
    return tokenizer, getattr(transformers, kind)(config)


def _decoder(kind: str, tokenizer: Any, layers: int, model: str) -> Any:
    """A small language model whose hidden states are a text encoder's."""
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return getattr(transformers, model)(config)


def _chat_tokenizer() -> Any:
    tokenizer = _qwen_tokenizer()
    tokenizer.chat_template = CHAT
    return tokenizer


def _kl(channels: int = 4, **more: Any) -> Any:
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=channels, norm_num_groups=2,
        use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1, scaling_factor=1.0, **more,
    )  # fmt: skip


def _wan_vae() -> Any:
    return diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    )


def _unipc() -> Any:
    return diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
    )


def _euler(**more: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**more)


WAN = {**SIZES, **CHANNELS, "text_dim": WIDTH, "freq_dim": 32, "ffn_dim": 64}
FLUX = {**SIZES, "in_channels": 16, "num_single_layers": 2, "joint_attention_dim": WIDTH}


def _sd35() -> Any:
    parts = _t5(width=2 * WIDTH)
    tokenizer, encoder = _clip()
    tokenizer_2, encoder_2 = _clip()
    return diffusers.StableDiffusion3Pipeline(
        tokenizer=tokenizer, text_encoder=encoder, tokenizer_2=tokenizer_2, text_encoder_2=encoder_2,
        tokenizer_3=parts["tokenizer"], text_encoder_3=parts["text_encoder"], vae=_kl(16), scheduler=_euler(),
        transformer=diffusers.SD3Transformer2DModel(
            **SIZES, in_channels=16, out_channels=16, sample_size=32, joint_attention_dim=2 * WIDTH,
            caption_projection_dim=72, pooled_projection_dim=2 * WIDTH,
            pos_embed_max_size=96, dual_attention_layers=(0,), qk_norm="rms_norm",
        ),
    )  # fmt: skip


def _chroma() -> Any:
    return diffusers.ChromaPipeline(
        **_t5(), vae=_kl(), scheduler=_euler(use_dynamic_shifting=True),
        transformer=diffusers.ChromaTransformer2DModel(
            **FLUX, axes_dims_rope=(4, 4, 4), approximator_num_channels=8, approximator_hidden_dim=8,
            approximator_layers=1,
        ),
    )  # fmt: skip


def _auraflow() -> Any:
    """Of no family: run by model.path= alone."""
    return diffusers.AuraFlowPipeline(
        **_t5("UMT5"), vae=_kl(), scheduler=_euler(),
        transformer=diffusers.AuraFlowTransformer2DModel(
            num_attention_heads=6, attention_head_dim=12, **CHANNELS, sample_size=16, num_mmdit_layers=2,
            num_single_dit_layers=2, joint_attention_dim=WIDTH, caption_projection_dim=72, pos_embed_max_size=256,
        ),
    )  # fmt: skip


def _pixart() -> Any:
    """Of no family: the test brings its model file."""
    return diffusers.PixArtSigmaPipeline(
        **_t5(), vae=_kl(), scheduler=diffusers.DPMSolverMultistepScheduler(),
        transformer=diffusers.PixArtTransformer2DModel(
            num_attention_heads=6, attention_head_dim=12, num_layers=2, in_channels=4, out_channels=8, sample_size=32,
            cross_attention_dim=72, caption_channels=WIDTH,
        ),
    )  # fmt: skip


def _klein() -> Any:
    tokenizer = _chat_tokenizer()
    return diffusers.Flux2KleinPipeline(
        tokenizer=tokenizer, text_encoder=_decoder("Qwen3", tokenizer, 28, "Qwen3ForCausalLM"), is_distilled=True,
        scheduler=_euler(use_dynamic_shifting=True),
        vae=_flux2_vae(),
        transformer=diffusers.Flux2Transformer2DModel(
            **{**FLUX, "joint_attention_dim": 3 * WIDTH}, timestep_guidance_channels=8, axes_dims_rope=(4, 4, 2, 2),
            guidance_embeds=False,
        ),
    )  # fmt: skip


def _zimage() -> Any:
    tokenizer = _chat_tokenizer()
    return diffusers.ZImagePipeline(
        tokenizer=tokenizer, text_encoder=_decoder("Qwen3", tokenizer, 2, "Qwen3Model"), vae=_kl(),
        scheduler=_euler(use_dynamic_shifting=True),
        transformer=diffusers.ZImageTransformer2DModel(
            in_channels=4, dim=72, n_layers=2, n_refiner_layers=1, n_heads=6, n_kv_heads=6, cap_feat_dim=WIDTH,
            axes_dims=[4, 4, 4], axes_lens=[1024, 64, 64],
        ),
    )  # fmt: skip


def _lumina2() -> Any:
    tokenizer = _t5()["tokenizer"]
    return diffusers.Lumina2Pipeline(
        tokenizer=tokenizer, text_encoder=_decoder("Gemma2", tokenizer, 2, "Gemma2Model"), vae=_kl(),
        scheduler=_euler(),
        transformer=diffusers.Lumina2Transformer2DModel(
            in_channels=4, hidden_size=72, num_layers=2, num_refiner_layers=1, num_attention_heads=6, num_kv_heads=2,
            multiple_of=8, axes_dim_rope=(4, 4, 4), axes_lens=(300, 64, 64), cap_feat_dim=WIDTH,
        ),
    )  # fmt: skip


def _cogvideox() -> Any:
    return diffusers.CogVideoXPipeline(
        **_t5(), scheduler=diffusers.CogVideoXDDIMScheduler(),
        vae=diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(4, 4, 4, 4), latent_channels=4, layers_per_block=1, norm_num_groups=2
        ),
        transformer=diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=6, attention_head_dim=16, num_layers=2, **CHANNELS, time_embed_dim=8,
            text_embed_dim=WIDTH, sample_width=8, sample_height=8, sample_frames=9, max_text_seq_length=226,
            use_rotary_positional_embeddings=True,
        ),
    )  # fmt: skip


def _hunyuan() -> Any:
    tokenizer = _t5()["tokenizer"]
    tokenizer_2, encoder_2 = _clip("CLIPTextModel")
    return diffusers.HunyuanVideoPipeline(
        tokenizer=tokenizer, text_encoder=_decoder("Llama", tokenizer, 3, "LlamaModel"), tokenizer_2=tokenizer_2,
        text_encoder_2=encoder_2, scheduler=_euler(shift=7.0),
        vae=diffusers.AutoencoderKLHunyuanVideo(
            block_out_channels=(4, 4, 4, 4), latent_channels=4, layers_per_block=1, norm_num_groups=2
        ),
        transformer=diffusers.HunyuanVideoTransformer3DModel(
            **SIZES, **CHANNELS, num_single_layers=2, num_refiner_layers=1, text_embed_dim=WIDTH,
            pooled_projection_dim=WIDTH, rope_axes_dim=(4, 4, 4),
        ),
    )  # fmt: skip


def _wan22() -> Any:
    return diffusers.WanPipeline(
        **_t5("UMT5"), vae=_wan_vae(), scheduler=_unipc(), transformer=diffusers.WanTransformer3DModel(**WAN),
        transformer_2=diffusers.WanTransformer3DModel(**WAN), boundary_ratio=0.875,
    )  # fmt: skip


def _wan22_ti2v() -> Any:
    transformer = diffusers.WanTransformer3DModel(**WAN)
    parts = _t5("UMT5")
    return diffusers.WanPipeline(
        **parts, vae=_wan_vae(), scheduler=_unipc(), transformer=transformer, expand_timesteps=True
    )


def _skyreels() -> Any:
    return diffusers.SkyReelsV2Pipeline(
        **_t5("UMT5"), vae=_wan_vae(), scheduler=_unipc(), transformer=diffusers.SkyReelsV2Transformer3DModel(**WAN)
    )


def _ltx2() -> Any:
    """A film with sound: 16,000 samples a second, of which the vocoder makes 160 for each of 100 mel frames."""
    from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder

    tokenizer = _t5()["tokenizer"]
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
        tokenizer=tokenizer, text_encoder=transformers.Gemma3ForConditionalGeneration(config), scheduler=_euler(),
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


def _flux(pipeline: str, channels: int) -> Any:
    parts, (tokenizer, encoder) = _t5(), _clip("CLIPTextModel")
    return getattr(diffusers, pipeline)(
        tokenizer=tokenizer, text_encoder=encoder, tokenizer_2=parts["tokenizer"], text_encoder_2=parts["text_encoder"],
        vae=_kl(), scheduler=_euler(use_dynamic_shifting=True),
        transformer=diffusers.FluxTransformer2DModel(
            **{**FLUX, "in_channels": channels}, out_channels=16, axes_dims_rope=(4, 4, 4), guidance_embeds=True,
            pooled_projection_dim=WIDTH,
        ),
    )  # fmt: skip


def _kontext() -> Any:
    return _flux("FluxKontextPipeline", 16)


def _fill() -> Any:
    """What is drawn, the picture without what is masked, and the mask: 64 pixels of each latent, 4 latents a token."""
    return _flux("FluxFillPipeline", 16 + 16 + 4 * 64)


def _wan_i2v(**more: Any) -> Any:
    """Each token sees the picture's latents and which frames are given; CLIP sees the picture too."""
    vision = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision |= {"image_size": 32, "patch_size": 8}
    return diffusers.WanImageToVideoPipeline(
        **_t5("UMT5"), vae=_wan_vae(), scheduler=_unipc(),
        image_processor=transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32),
        image_encoder=transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**vision)),
        transformer=diffusers.WanTransformer3DModel(**{**WAN, "in_channels": 4 + 4 + 4}, image_dim=WIDTH, **more),
    )  # fmt: skip


def _wan_flf2v() -> Any:
    """Two pictures, of 16 tokens and one for all of them each."""
    return _wan_i2v(pos_embed_seq_len=2 * 17)


def _chronoedit() -> Any:
    """Wan's parts; CLIP sees the picture too, by keys of its own."""
    transformer = diffusers.ChronoEditTransformer3DModel(
        **{**WAN, "in_channels": 4 + 4 + 4}, image_dim=WIDTH, added_kv_proj_dim=72
    )
    parts = {**_wan_i2v().components, "transformer": transformer, "scheduler": _euler(shift=5.0)}
    taken = inspect.signature(diffusers.ChronoEditPipeline.__init__).parameters
    return diffusers.ChronoEditPipeline(**{name: part for name, part in parts.items() if name in taken})


def _wan22_i2v() -> Any:
    """Two transformers, neither of which sees what CLIP sees."""
    first, second = (diffusers.WanTransformer3DModel(**{**WAN, "in_channels": 4 + 4 + 4}) for _ in range(2))
    return diffusers.WanImageToVideoPipeline(
        **_t5("UMT5"), vae=_wan_vae(), scheduler=_unipc(), image_processor=None, image_encoder=None,
        transformer=first, transformer_2=second, boundary_ratio=0.9,
    )  # fmt: skip


def _qwen_edit(pipeline: str = "QwenImageEditPipeline") -> Any:
    """QwenImage's twin, whose text encoder sees the picture too. Its processor needs torchvision."""
    import twins

    base = twins.FAMILIES["qwenimage"]()
    template = getattr(diffusers, pipeline)(*[None] * 6).prompt_template_encode
    tokenizer = _qwen_tokenizer(template, ["<|im_start|>", "<|im_end|>", *PLACES])
    config = base.text_encoder.config
    config.text_config.vocab_size = len(tokenizer)
    for name, word in zip(("vision_start", "vision_end", "image", "video"), PLACES, strict=True):
        setattr(config, f"{name}_token_id", tokenizer.convert_tokens_to_ids(word))
    return getattr(diffusers, pipeline)(
        tokenizer=tokenizer, text_encoder=type(base.text_encoder)(config), vae=base.vae, scheduler=base.scheduler,
        transformer=base.transformer,
        processor=transformers.Qwen2VLProcessor(
            image_processor=transformers.Qwen2VLImageProcessor(), tokenizer=tokenizer,
            video_processor=transformers.Qwen2VLVideoProcessor(), chat_template=CHAT,
        ),
    )  # fmt: skip


def _qwen_edit_plus() -> Any:
    return _qwen_edit("QwenImageEditPlusPipeline")


PLACES = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def _helios() -> Any:
    return diffusers.HeliosPipeline(
        **_t5("UMT5"), vae=_wan_vae(), scheduler=diffusers.HeliosScheduler(scheduler_type="euler", stages=1),
        transformer=diffusers.HeliosTransformer3DModel(**WAN, rope_dim=(4, 4, 4)),
    )  # fmt: skip


def _krea2() -> Any:
    tokenizer = _qwen_tokenizer()
    return diffusers.Krea2Pipeline(
        tokenizer=tokenizer, text_encoder=_qwen3_vl(tokenizer, 4),
        scheduler=_euler(use_dynamic_shifting=True), text_encoder_select_layers=[1, 2, 3],
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
        ),
        transformer=diffusers.Krea2Transformer2DModel(
            **SIZES, in_channels=16, num_key_value_heads=2, intermediate_size=32, timestep_embed_dim=8,
            text_hidden_dim=WIDTH, num_text_layers=3, text_num_attention_heads=2, text_num_key_value_heads=2,
            text_intermediate_size=32, num_layerwise_text_blocks=1, num_refiner_text_blocks=1, axes_dims_rope=(4, 4, 4),
        ),
    )  # fmt: skip


def _glyphs() -> dict[str, Any]:
    """The second text encoder of Hunyuan's newer models, which reads what is between quotes, letter by letter."""
    tokenizer = transformers.ByT5Tokenizer()
    sizes = {"d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4}
    config = transformers.T5Config(vocab_size=len(tokenizer), **sizes)
    return {"tokenizer_2": tokenizer, "text_encoder_2": transformers.T5EncoderModel(config)}


def _qwen_vl(layers: int) -> Any:
    """The configuration of a tiny Qwen2.5-VL."""
    text = {
        "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": len(_qwen_tokenizer()), "bos_token_id": None, "eos_token_id": None,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH}
    return transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)


def _hunyuan15() -> Any:
    return diffusers.HunyuanVideo15Pipeline(
        tokenizer=_chat_tokenizer(), **_glyphs(), scheduler=_euler(shift=5.0),
        text_encoder=transformers.Qwen2_5_VLTextModel(_qwen_vl(4).text_config),
        guider=diffusers.ClassifierFreeGuidance(guidance_scale=3.0),
        vae=diffusers.AutoencoderKLHunyuanVideo15(
            block_out_channels=(8, 8, 8, 8, 8), latent_channels=4, layers_per_block=1
        ),
        transformer=diffusers.HunyuanVideo15Transformer3DModel(
            **SIZES, in_channels=9, out_channels=4, num_refiner_layers=1, text_embed_dim=WIDTH, text_embed_2_dim=WIDTH,
            image_embed_dim=8, rope_axes_dim=(4, 4, 4),
        ),
    )  # fmt: skip


def _hunyuan_image() -> Any:
    return diffusers.HunyuanImagePipeline(
        tokenizer=_chat_tokenizer(), **_glyphs(), scheduler=_euler(shift=5.0),
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(_qwen_vl(4)),
        vae=diffusers.AutoencoderKLHunyuanImage(
            in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(32, 32, 32, 32, 32, 32),
            layers_per_block=1, spatial_compression_ratio=32, sample_size=64, scaling_factor=1.0,
        ),
        transformer=diffusers.HunyuanImageTransformer2DModel(
            **SIZES, **CHANNELS, num_single_layers=2, num_refiner_layers=1, text_embed_dim=WIDTH,
            text_embed_2_dim=WIDTH, rope_axes_dim=(6, 6),
        ),
    )  # fmt: skip


def _kandinsky() -> Any:
    tokenizer_2, encoder_2 = _clip("CLIPTextModel")
    return diffusers.Kandinsky5T2VPipeline(  # its processor needs torchvision, for pictures; a tokenizer is in it
        tokenizer=_chat_tokenizer(), text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(_qwen_vl(2)),
        tokenizer_2=tokenizer_2, text_encoder_2=encoder_2, scheduler=_euler(shift=5.0),
        vae=diffusers.AutoencoderKLHunyuanVideo(
            block_out_channels=(4, 4, 4, 4), latent_channels=4, layers_per_block=1, norm_num_groups=2
        ),
        transformer=diffusers.Kandinsky5Transformer3DModel(
            in_visual_dim=4, out_visual_dim=4, in_text_dim=WIDTH, in_text_dim2=WIDTH, time_dim=8, model_dim=72,
            ff_dim=32, num_text_blocks=1, num_visual_blocks=2, axes_dims=(4, 4, 4),
        ),
    )  # fmt: skip


def _kandinsky_picture() -> Any:
    base = _kandinsky()
    parts = {name: part for name, part in base.components.items() if name != "vae"}
    return diffusers.Kandinsky5T2IPipeline(**parts, vae=_kl())


def _qwen3_vl(tokenizer: Any, layers: int) -> Any:
    text = {
        "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "vocab_size": len(tokenizer), "bos_token_id": None,
        "eos_token_id": None,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH}
    config = transformers.Qwen3VLConfig(text_config=text, vision_config={**vision, "deepstack_visual_indexes": [0]})
    return transformers.Qwen3VLModel(config)


def _flux2_vae() -> Any:
    return diffusers.AutoencoderKLFlux2(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=4, norm_num_groups=2
    )


def _ideogram4() -> Any:
    """Two transformers: of the prompt and the picture in one sequence, and of the picture alone."""
    tokenizer = _chat_tokenizer()
    tokenizer.chat_template = CHAT.replace("message.content", "message.content[0].text")
    first, second = (
        diffusers.Ideogram4Transformer2DModel(
            **SIZES, in_channels=16, intermediate_size=32, adaln_dim=8, llm_features_dim=13 * WIDTH,
            mrope_section=(2, 2, 2),
        )
        for _ in range(2)
    )  # fmt: skip
    return diffusers.Ideogram4Pipeline(
        tokenizer=tokenizer, text_encoder=_qwen3_vl(tokenizer, 36), vae=_flux2_vae(), scheduler=_euler(),
        transformer=first, unconditional_transformer=second,
    )  # fmt: skip


class _Guardrail:
    """Stands for NVIDIA's safety checker, a package with gated weights of 18 GB, which says nothing of the picture."""


def _cosmos(pipeline: str, vae: Any, scheduler: Any, **more: Any) -> Any:
    found = getattr(diffusers, pipeline)(
        **_t5(), vae=vae, scheduler=scheduler, safety_checker=_Guardrail(),
        transformer=diffusers.CosmosTransformer3DModel(
            **SIZES, **CHANNELS, text_embed_dim=WIDTH, adaln_lora_dim=8, max_size=(16, 32, 32),
            concat_padding_mask=False,  # torchvision resizes one
            **more,
        ),
    )  # fmt: skip
    found.register_modules(safety_checker=None)
    return found


def _cosmos2_picture() -> Any:
    return _cosmos("Cosmos2TextToImagePipeline", _wan_vae(), _euler(use_karras_sigmas=True))


def _cosmos_video() -> Any:
    vae = diffusers.AutoencoderKLCosmos(
        latent_channels=4, encoder_block_out_channels=(8, 8, 8, 8), decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(8,), resolution=64, num_layers=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    return _cosmos("CosmosTextToWorldPipeline", vae, diffusers.EDMEulerScheduler())


def _vace() -> Any:
    """A stream beside the frames, of what is given of them: two halves of them and the mask, here all unknown."""
    return diffusers.WanVACEPipeline(
        **_t5("UMT5"), vae=_wan_vae(), scheduler=_unipc(),
        transformer=diffusers.WanVACETransformer3DModel(**WAN, vace_layers=[0, 1], vace_in_channels=4 + 4 + 64),
    )  # fmt: skip


def _skyreels_forcing() -> Any:
    transformer = diffusers.SkyReelsV2Transformer3DModel(**WAN)
    return diffusers.SkyReelsV2DiffusionForcingPipeline(
        **_t5("UMT5"), vae=_wan_vae(), scheduler=_unipc(), transformer=transformer
    )


def _flux2() -> Any:
    """Its processor needs torchvision, for pictures; a tokenizer is in it."""
    tokenizer = _chat_tokenizer()
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
        tokenizer=tokenizer, text_encoder=transformers.Mistral3ForConditionalGeneration(config), vae=_flux2_vae(),
        scheduler=_euler(use_dynamic_shifting=True),
        transformer=diffusers.Flux2Transformer2DModel(
            **{**FLUX, "joint_attention_dim": 3 * WIDTH}, timestep_guidance_channels=8, axes_dims_rope=(4, 4, 2, 2),
        ),
    )  # fmt: skip


def _ltx_condition() -> Any:
    """LTX's parts with a scheduler that takes the times that are given to it."""
    import twins

    parts = twins.FAMILIES["ltx_video"]().components
    return diffusers.LTXConditionPipeline(**{**parts, "scheduler": _euler()})


SMALL = "model.text_tokens=24"
UNNAMED = ("auraflow",)  # no family's
OWN = "pixart_of_mine"  # of a model file that is not in conf/, as a user writes one: all its facts and its plan
OWN_FILE = f"""
name: {OWN}
pipeline: PixArtSigmaPipeline
heads: 6
head_dim: 12
layers: 2
latent_channels: 4
text: whole
cross_attention: true
text_tokens: 24
guidance_cfg: true
guidance_branches: batch
guidance: 4.5
prompt: a red cat
height: 64
width: 64
steps: 2
arguments: {{guidance: guidance_scale, negative_prompt: negative_prompt, text_tokens: max_sequence_length}}
cp_plan:
  split:
    transformer_blocks.0:
      hidden_states: {{dim: 1}}
  gather:
    proj_out: {{dim: 1}}
  local: [transformer_blocks.*.attn2]
"""
SINGLE = "model.layers=4"  # two of two streams, two of one
# How it is made, and the facts in which it differs.
PIPELINES: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "sd35_medium": (_sd35, [SMALL, "model.max_positions=96"]),
    "chroma": (_chroma, [SMALL, SINGLE]),
    "flux2_klein_4b": (_klein, [SMALL, SINGLE]),
    "zimage_turbo": (_zimage, [SMALL, "guidance=2"]),
    "lumina2": (_lumina2, [SMALL]),
    "cogvideox_5b": (_cogvideox, ["model.head_dim=16"]),
    "hunyuan_video": (_hunyuan, [SMALL, SINGLE]),
    "wan22_t2v_a14b": (_wan22, [SMALL, "steps=4"]),
    "wan22_ti2v_5b": (_wan22_ti2v, [SMALL, "model.vae_scale=8"]),
    "skyreels_v2_t2v_14b": (_skyreels, [SMALL]),
    "helios": (_helios, [SMALL]),
    "krea2": (_krea2, [SMALL]),
    "hunyuan_video_15": (_hunyuan15, []),
    "hunyuan_image_21": (_hunyuan_image, [SINGLE]),
    "kandinsky5_t2v_lite": (_kandinsky, [SMALL, "model.packages=[]"]),
    "ltx2": (_ltx2, [SMALL]),
    "kandinsky5_t2i_lite": (_kandinsky_picture, [SMALL, "model.packages=[]", "model.sizes=null"]),
    "ideogram4": (_ideogram4, [SMALL, "guidance=3"]),
    "cosmos2_t2i_2b": (_cosmos2_picture, [SMALL, "model.packages=[]", "model.max_positions=32"]),
    "cosmos_t2w_7b": (_cosmos_video, [SMALL, "model.packages=[]", "model.max_positions=32"]),
    "wan_vace_1_3b": (_vace, [SMALL]),
    "skyreels_v2_df_1_3b": (_skyreels_forcing, [SMALL]),
    "flux2": (_flux2, [SMALL, SINGLE]),
    "ltx_video_095": (_ltx_condition, []),
    "auraflow": (_auraflow, [SMALL]),
}
# Those that start from a picture.
STARTING: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "flux_kontext": (_kontext, [SMALL, SINGLE]),
    "flux_fill": (_fill, [SMALL, SINGLE]),
    "wan_i2v_14b": (_wan_i2v, [SMALL]),
    "wan_flf2v_14b": (_wan_flf2v, [SMALL]),
    "wan22_i2v_a14b": (_wan22_i2v, [SMALL]),
    "wan22_ti2v_5b": PIPELINES["wan22_ti2v_5b"],
    "chronoedit": (_chronoedit, [SMALL]),
    "ltx2": PIPELINES["ltx2"],
    "ltx_video_095": PIPELINES["ltx_video_095"],
    "qwenimage_edit": (_qwen_edit, []),
    "qwenimage_edit_plus": (_qwen_edit_plus, []),
}
