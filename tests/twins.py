"""Tiny pipelines of random weights, of the classes of the large ones, built without a download: a megabyte each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SEED = 0
# What a request for each family needs beside `model.path`: the facts in which its twin differs.
FACTS = {
    "qwenimage": ["model=qwenimage", "model.heads=6", "model.head_dim=12", "model.layers=2"],
    "wan_t2v_1_3b": ["model=wan_t2v_1_3b", "model.heads=6", "model.head_dim=12", "model.layers=2"],
    "ltx_video": ["model=ltx_video", "model.heads=6", "model.head_dim=12", "model.layers=2"],
}


def build(name: str, folder: Path) -> Path:
    """Save a family's twin in `folder` and return it."""
    torch.manual_seed(SEED)
    pipe = FAMILIES[name]()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            _make_random(part)
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


def _make_random(module: torch.nn.Module) -> None:
    """Weights that make every part of the network count: with the usual small ones, attention hardly shows."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)


def _t5() -> dict[str, Any]:
    from transformers import AutoTokenizer

    from launcher.families.weights import BUNDLED

    return {"tokenizer": AutoTokenizer.from_pretrained(BUNDLED / "tokenizer_2")}


def _wan() -> Any:
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    parts = _t5()
    config = UMT5Config(vocab_size=len(parts["tokenizer"]), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    return WanPipeline(
        **parts,
        text_encoder=UMT5EncoderModel(config),
        transformer=WanTransformer3DModel(
            num_attention_heads=6, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=32, freq_dim=32,
            ffn_dim=64, num_layers=2,
        ),
        vae=AutoencoderKLWan(
            base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
        ),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
        ),
    )  # fmt: skip


def _ltx() -> Any:
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )
    from transformers import T5Config, T5EncoderModel

    parts = _t5()
    config = T5Config(vocab_size=len(parts["tokenizer"]), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    return LTXPipeline(
        **parts,
        text_encoder=T5EncoderModel(config),
        transformer=LTXVideoTransformer3DModel(
            in_channels=8, out_channels=8, num_attention_heads=6, attention_head_dim=12, cross_attention_dim=72,
            num_layers=2, caption_channels=32,
        ),
        vae=AutoencoderKLLTXVideo(
            latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )  # fmt: skip


def _qwenimage() -> Any:
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImagePipeline,
        QwenImageTransformer2DModel,
    )
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = _qwen_tokenizer()
    text = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
        "bos_token_id": None,
        "eos_token_id": None,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)
    return QwenImagePipeline(
        tokenizer=tokenizer,
        text_encoder=Qwen2_5_VLForConditionalGeneration(config),
        transformer=QwenImageTransformer2DModel(
            in_channels=16, out_channels=4, num_layers=2, attention_head_dim=12, num_attention_heads=6,
            joint_attention_dim=32, axes_dims_rope=(4, 4, 4),
        ),
        vae=AutoencoderKLQwenImage(
            base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )  # fmt: skip


def _qwen_tokenizer(template: str = "", special: list[str] | None = None) -> Any:
    """Qwen2's own class, trained on the pipeline's template alone.

    The words of the template are tokens then, as they are for the large model, so that the 34 tokens which the pipeline
    drops are the same ones; other words fall into letters.
    """
    from diffusers import QwenImagePipeline
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2Tokenizer

    template = template or QwenImagePipeline(None, None, None, None, None).prompt_template_encode
    letters = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    special = special or ["<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(vocab=letters, additional_special_tokens=special)
    return tokenizer.train_new_from_iterator([template], 512, initial_alphabet=list(letters), min_frequency=1)


FAMILIES: dict[str, Callable[[], Any]] = {"qwenimage": _qwenimage, "wan_t2v_1_3b": _wan, "ltx_video": _ltx}
