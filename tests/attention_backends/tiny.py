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
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)  # noqa: E731
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


def qwen_inputs(height: int, width: int, text: int) -> dict[str, Any]:
    """Two prompts, of text and text - 3 tokens: the mask hides the end of the second."""
    generator = torch.Generator().manual_seed(text)
    mask = torch.ones(2, text, dtype=torch.bool)
    mask[1, text - 3 :] = False
    return {
        "hidden_states": torch.randn(2, height * width, 4, generator=generator),
        "encoder_hidden_states": torch.randn(2, text, 8, generator=generator),
        "encoder_hidden_states_mask": mask,
        "timestep": torch.full((2,), 0.5),
        "img_shapes": [[(1, height, width)]] * 2,
        "return_dict": False,
    }
