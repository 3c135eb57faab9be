"""A FLUX of about 1 B random parameters, its files written block by block: for what tiny twins say little of.

0.78 B of the transformer (5 double and 10 single blocks, 12 heads of 128), 0.15 B of T5's encoder, and a VAE of
FLUX.1's own channels (84 M). Tokenizers and CLIP's encoder are those of flux_tiny.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import T5Config, T5EncoderModel

from launcher.families.weights import BUNDLED

TRANSFORMER = {
    "num_layers": 5, "num_single_layers": 10, "attention_head_dim": 128, "num_attention_heads": 12, "in_channels": 64,
    "joint_attention_dim": 1024, "axes_dims_rope": (16, 56, 56), "guidance_embeds": False,
}  # fmt: skip
VAE = {
    "latent_channels": 16, "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "use_quant_conv": False,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.3611, "shift_factor": 0.1159, "use_post_quant_conv": False, "sample_size": 1024,
}  # fmt: skip
TEXT = {"num_layers": 12, "d_model": 1024, "d_ff": 2816, "num_heads": 16, "d_kv": 64, "is_gated_act": True}


def build(folder: Path, dtype: torch.dtype, **wider: Any) -> Path:
    """Save it in `folder` and return that; main memory never holds more than a block of it.

    Args:
        wider: what the transformer's configuration has instead of `TRANSFORMER`'s.
    """
    own = ("transformer", "text_encoder_2", "vae")
    shutil.copytree(BUNDLED, folder, ignore=lambda _, names: [name for name in names if name in own])
    with torch.device("meta"):
        clip = json.loads((BUNDLED / "text_encoder" / "config.json").read_text())
        transformer = FluxTransformer2DModel(**TRANSFORMER | wider, pooled_projection_dim=clip["hidden_size"])
        vae = AutoencoderKL(**VAE)
        known = json.loads((BUNDLED / "text_encoder_2" / "config.json").read_text())
        text = T5EncoderModel(T5Config(**known | TEXT | {"dtype": str(dtype).removeprefix("torch.")}))
    for name, part, stem in (
        ("transformer", transformer, "diffusion_pytorch_model"),
        ("vae", vae, "diffusion_pytorch_model"),
        ("text_encoder_2", text, "model"),
    ):
        place = folder / name
        place.mkdir()
        if name == "text_encoder_2":
            text.config.save_pretrained(place)
        else:
            part.save_config(place)
        _write(part, place, stem, dtype)
    return folder


def _write(part: torch.nn.Module, place: Path, stem: str, dtype: torch.dtype) -> None:
    """One file a block, of numbers that keep what passes through them about as large as it is."""
    blocks: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for key, tensor in part.state_dict().items():
        words = key.split(".")
        number = next((place for place, word in enumerate(words) if word.isdigit()), 0)
        blocks[".".join(words[: number + 1])].append((key, tensor))
    files, total, generator = {}, 0, torch.Generator().manual_seed(0)
    for number, block in enumerate(blocks.values(), 1):
        name = f"{stem}-{number:05}-of-{len(blocks):05}.safetensors"
        made = {}
        for key, tensor in block:
            if tensor.ndim > 1:
                made[key] = (torch.randn(tensor.shape, generator=generator) * tensor[0].numel() ** -0.5).to(dtype)
            else:
                made[key] = torch.full(tensor.shape, float(key.endswith("weight")), dtype=dtype)
            files[key], total = name, total + made[key].nbytes
        safetensors.torch.save_file(made, place / name, metadata={"format": "pt"})
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (place / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
