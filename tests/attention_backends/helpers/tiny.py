"""Tiny random diffusers models, and inputs for them."""

from typing import Any

import torch
from diffusers import FluxTransformer2DModel


def flux(heads: int = 4, layers: int = 1, dtype: torch.dtype = torch.float64) -> FluxTransformer2DModel:
    torch.manual_seed(0)
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=layers,
        num_single_layers=layers,
        attention_head_dim=16,
        num_attention_heads=heads,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 6, 6),
    )
    return model.to(dtype).eval()


def flux_inputs(image: int, text: int, dtype: torch.dtype = torch.float64, batch: int = 1) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(image * 1000 + text)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    ids = torch.zeros(image, 3, dtype=dtype)
    ids[:, 1] = torch.arange(image)
    return {
        "hidden_states": random(batch, image, 4),
        "encoder_hidden_states": random(batch, text, 8),
        "pooled_projections": random(batch, 8),
        "timestep": torch.full((batch,), 0.5, dtype=dtype),
        "img_ids": ids,
        "txt_ids": torch.zeros(text, 3, dtype=dtype),
        "return_dict": False,
    }


def flux2(layers: int = 1) -> Any:
    from diffusers import Flux2Transformer2DModel

    torch.manual_seed(0)
    model = Flux2Transformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=layers,
        num_single_layers=layers,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=8,
        timestep_guidance_channels=8,
        axes_dims_rope=(4, 4, 4, 4),
    )
    return model.double().eval()


def flux2_inputs(image: int, text: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(text)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    ids = torch.zeros(1, image, 4)
    ids[..., 1] = torch.arange(image)
    return {
        "hidden_states": random(1, image, 4),
        "encoder_hidden_states": random(1, text, 8),
        "timestep": torch.full((1,), 0.5, dtype=torch.float64),
        "img_ids": ids,
        "txt_ids": torch.zeros(1, text, 4),
        "guidance": torch.ones(1, dtype=torch.float64),
        "return_dict": False,
    }


def qwen() -> Any:
    from diffusers import QwenImageTransformer2DModel

    torch.manual_seed(0)
    model = QwenImageTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=8,
        axes_dims_rope=(4, 6, 6),
    )
    return model.eval()


def wan(layers: int = 2) -> Any:
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    model = WanTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        freq_dim=8,
        ffn_dim=16,
        num_layers=layers,
    )
    return model.eval()


def wan_inputs(frames: int, height: int, width: int, text: int) -> dict[str, Any]:
    """Tokens: frames x height x width; every rank holds the text whole."""
    generator = torch.Generator().manual_seed(text)
    return {
        "hidden_states": torch.randn(1, 4, frames, 2 * height, 2 * width, generator=generator),
        "encoder_hidden_states": torch.randn(1, text, 8, generator=generator),
        "timestep": torch.tensor([500]),
        "return_dict": False,
    }


def ltx() -> Any:
    from diffusers import LTXVideoTransformer3DModel

    torch.manual_seed(0)
    model = LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=4,
        attention_head_dim=12,
        cross_attention_dim=48,
        num_layers=2,
        caption_channels=8,
    )
    return model.eval()


def ltx_inputs(frames: int, height: int, width: int, text: int) -> dict[str, Any]:
    """A pair for classifier-free guidance, the first prompt of half the text: cross-attention is masked."""
    generator = torch.Generator().manual_seed(text)
    mask = torch.ones(2, text, dtype=torch.bool)
    mask[0, (text + 1) // 2 :] = False
    return {
        "hidden_states": torch.randn(2, frames * height * width, 4, generator=generator),
        "encoder_hidden_states": torch.randn(2, text, 8, generator=generator),
        "encoder_attention_mask": mask,
        "timestep": torch.tensor([500.0, 500.0]),
        "num_frames": frames,
        "height": height,
        "width": width,
        "rope_interpolation_scale": (8 / 25, 32, 32),
        "return_dict": False,
    }


def qwen_inputs(height: int, width: int, text: int, hidden: int = 3) -> dict[str, Any]:
    """Two prompts, of text and text - hidden tokens: the mask hides the end of the second. As in diffusers' pipeline
    there is none where nothing is hidden."""
    generator = torch.Generator().manual_seed(text)
    mask = torch.ones(2, text, dtype=torch.bool)
    mask[1, text - hidden :] = False
    return {
        "hidden_states": torch.randn(2, height * width, 4, generator=generator),
        "encoder_hidden_states": torch.randn(2, text, 8, generator=generator),
        "encoder_hidden_states_mask": mask if hidden else None,
        "timestep": torch.full((2,), 0.5),
        "img_shapes": [[(1, height, width)]] * 2,
        "return_dict": False,
    }


def helios(amplify: bool = False) -> Any:
    from diffusers import HeliosTransformer3DModel

    torch.manual_seed(0)
    model = HeliosTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        freq_dim=8,
        ffn_dim=16,
        num_layers=2,
        rope_dim=(4, 4, 4),
        is_amplify_history=amplify,
    )
    return model.double().eval()


def helios_inputs(frames: int, height: int, width: int, text: int) -> dict[str, Any]:
    """Tokens: frames x height x width, and one latent of history before them, of as many tokens."""
    generator = torch.Generator().manual_seed(text)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "hidden_states": random(1, 4, frames, 2 * height, 2 * width),
        "latents_history_short": random(1, 4, 1, 2 * height, 2 * width),
        "encoder_hidden_states": random(1, text, 8),
        "timestep": torch.tensor([500]),
        "indices_hidden_states": torch.arange(1, 1 + frames)[None],
        "indices_latents_history_short": torch.zeros(1, 1, dtype=torch.long),
        "return_dict": False,
    }


def minimax() -> Any:
    from diffusers import MiniMaxH3Transformer3DModel

    torch.manual_seed(0)
    model = MiniMaxH3Transformer3DModel(
        num_attention_heads=4,
        attention_head_dim=24,
        hidden_size=24,
        num_layers=1,
        num_refiner_layers=1,
        ffn_dim=16,
        in_channels=4,
        audio_in_channels=4,
        text_dim=8,
        freq_dim=8,
        time_embed_hidden_dim=8,
        time_embed_dim=8,
        rope_freq_dim=4,
    )
    return model.eval()


def minimax_inputs(video: int, audio: int, text: int) -> dict[str, Any]:
    """One packed sequence of text, video and audio; the text is refined by an attention before anything is split."""
    generator = torch.Generator().manual_seed(text)
    total = text + video + audio
    places = torch.arange(total).split([text, video, audio])
    tags = torch.repeat_interleave(torch.tensor([1, 0, 2]), torch.tensor([text, video, audio]))
    return {
        "hidden_states": torch.randn(1, video, 16, generator=generator),
        "audio_hidden_states": torch.randn(1, audio, 4, generator=generator),
        "encoder_hidden_states": torch.randn(1, text, 8, generator=generator),
        "timestep": torch.tensor([0.5, 0.3]),
        "timestep_indices": (tags == 2).long(),
        "token_tags": tags,
        "position_ids": torch.randint(0, 5, (total, 3), generator=generator),
        "text_indices": places[0],
        "video_indices": places[1],
        "audio_indices": places[2],
        "return_dict": False,
    }
