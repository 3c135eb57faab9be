"""What tiny pipelines are made of: text encoders, tokenizers, VAEs and schedulers of random weights."""

from __future__ import annotations

from typing import Any

import diffusers
import transformers
from twins import _qwen_tokenizer

from launcher.families.weights import BUNDLED
from launcher.worker.processors import pictures_only

WIDTH = 32  # of every text encoder
SIZES = {"num_attention_heads": 6, "attention_head_dim": 12, "num_layers": 2}
CHANNELS = {"in_channels": 4, "out_channels": 4}
WAN = {**SIZES, **CHANNELS, "text_dim": WIDTH, "freq_dim": 32, "ffn_dim": 64}
FLUX = {**SIZES, "in_channels": 16, "num_single_layers": 2, "joint_attention_dim": WIDTH}
CHAT = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
PLACES = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def t5(kind: str = "T5", width: int = WIDTH) -> dict[str, Any]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(BUNDLED / "tokenizer_2")
    sizes = {"d_model": width, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4}
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokenizer), **sizes)
    return {"tokenizer": tokenizer, "text_encoder": getattr(transformers, f"{kind}EncoderModel")(config)}


def clip(kind: str = "CLIPTextModelWithProjection") -> tuple[Any, Any]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(BUNDLED / "tokenizer")
    tokenizer.model_max_length = 77
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        projection_dim=WIDTH, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id or 0,
    )  # fmt: skip
    return tokenizer, getattr(transformers, kind)(config)


def decoder(kind: str, tokenizer: Any, layers: int, model: str) -> Any:
    """A small language model whose hidden states are a text encoder's."""
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return getattr(transformers, model)(config)


def chat_tokenizer() -> Any:
    tokenizer = _qwen_tokenizer()
    tokenizer.chat_template = CHAT
    return tokenizer


def glyphs() -> dict[str, Any]:
    """The second text encoder of Hunyuan's newer models, which reads what is between quotes, letter by letter."""
    tokenizer = transformers.ByT5Tokenizer()
    sizes = {"d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4}
    config = transformers.T5Config(vocab_size=len(tokenizer), **sizes)
    return {"tokenizer_2": tokenizer, "text_encoder_2": transformers.T5EncoderModel(config)}


def qwen_vl(layers: int, tokenizer: Any = None) -> Any:
    """The configuration of a tiny Qwen2.5-VL."""
    text = {
        "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": len(tokenizer or _qwen_tokenizer()), "bos_token_id": None,
        "eos_token_id": None,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH}
    return transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)


def qwen3_vl(tokenizer: Any, layers: int) -> Any:
    text = {
        "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": layers, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "vocab_size": len(tokenizer), "bos_token_id": None,
        "eos_token_id": None,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH}
    config = transformers.Qwen3VLConfig(text_config=text, vision_config={**vision, "deepstack_visual_indexes": [0]})
    return transformers.Qwen3VLModel(config)


def qwen_processor(template: str = "") -> Any:
    """What Qwen2.5-VL sees pictures by, and its tokenizer: without the part for films, which needs torchvision."""
    return pictures_only(transformers.Qwen2VLProcessor)(
        image_processor=transformers.Qwen2VLImageProcessorPil(), chat_template=CHAT,
        tokenizer=_qwen_tokenizer(template, ["<|im_start|>", "<|im_end|>", *PLACES]),
    )  # fmt: skip


def kl(**more: Any) -> Any:
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=4, norm_num_groups=2,
        use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1, scaling_factor=1.0, **more,
    )  # fmt: skip


def wan_vae() -> Any:
    return diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    )


def flux2_vae() -> Any:
    return diffusers.AutoencoderKLFlux2(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=4, norm_num_groups=2
    )


def unipc() -> Any:
    return diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000
    )


def euler(**more: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**more)
