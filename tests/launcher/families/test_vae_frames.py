"""Frames that a film's VAE decodes at once, as its family states them: what its decoder is seen to make."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow

_BLOCKS = {"block_out_channels": (4, 4, 4, 4), "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2}
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "hunyuan_video": ("AutoencoderKLHunyuanVideo", _BLOCKS),
    "hunyuan_video_i2v": ("AutoencoderKLHunyuanVideo", _BLOCKS),
    "kandinsky5_t2v_lite": ("AutoencoderKLHunyuanVideo", _BLOCKS),
    "cogvideox_5b": ("AutoencoderKLCogVideoX", _BLOCKS),
}


@pytest.mark.parametrize("name", TINY)
def test_a_familys_vae_decodes_so_many_frames_at_once(ask, name):
    import diffusers
    import torch

    kind, config = TINY[name]
    vae, seen = getattr(diffusers, kind)(**config).eval(), []

    def watch(_module: Any, _given: Any, made: Any) -> None:
        seen.append((made[0] if isinstance(made, tuple) else made).shape[2])

    vae.decoder.register_forward_hook(watch)
    with torch.no_grad():
        vae.decode(torch.randn(1, 4, 13, 4, 4))  # an odd number of latents of time
    assert max(seen) == ask(f"model={name}").config.model.vae_frames
