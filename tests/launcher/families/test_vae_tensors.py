"""Tensors of its last stage that a VAE holds at once, as its family states them: counted as it decodes, without data.

Each VAE has the published configuration, of which most are the defaults of diffusers' class.
"""

from __future__ import annotations

import weakref
from typing import Any

import pytest

pytestmark = pytest.mark.slow

_FLUX = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
}
_COGVIDEO = {
    "down_block_types": ("CogVideoXDownBlock3D",) * 4,
    "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "block_out_channels": (128, 256, 256, 512),
}
_WAN22 = {
    "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "in_channels": 12, "out_channels": 12,
    "scale_factor_spatial": 16, "patch_size": 2,
}  # fmt: skip
# The VAE's class, what differs from its defaults, and the latents: 33 frames, or as near as its steps allow.
VAES: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "flux": ("AutoencoderKL", _FLUX, (1, 16, 32, 32)),
    "qwenimage": ("AutoencoderKLQwenImage", {}, (1, 16, 1, 32, 32)),
    "wan_t2v_1_3b": ("AutoencoderKLWan", {}, (1, 16, 9, 32, 32)),
    "wan22_ti2v_5b": ("AutoencoderKLWan", _WAN22, (1, 48, 9, 16, 16)),
    "hunyuan_video": ("AutoencoderKLHunyuanVideo", {}, (1, 16, 9, 24, 24)),
    "hunyuan_video_15": ("AutoencoderKLHunyuanVideo15", {}, (1, 32, 9, 16, 16)),
    "cogvideox_5b": ("AutoencoderKLCogVideoX", _COGVIDEO, (1, 16, 9, 32, 32)),
    "ltx_video": ("AutoencoderKLLTXVideo", {}, (1, 128, 5, 16, 16)),
    "ltx2": ("AutoencoderKLLTX2Video", {}, (1, 128, 5, 16, 16)),
    "cosmos_t2w_7b": ("AutoencoderKLCosmos", {}, (1, 16, 5, 32, 32)),
}


@pytest.mark.parametrize("name", VAES)
def test_a_familys_vae_holds_so_many_tensors_of_its_last_stage(ask, monkeypatch, name):
    import diffusers
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Held(TorchDispatchMode):
        """Bytes of all tensors that are there, now and at most."""

        now, most = 0, 0

        def __init__(self) -> None:
            super().__init__()
            self.known: dict[int, int] = {}

        def __torch_dispatch__(self, called: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = called(*args, **(kwargs or {}))
            for tensor in tree_leaves(made):
                if isinstance(tensor, torch.Tensor) and (key := tensor.untyped_storage()._cdata) not in self.known:
                    self.known[key] = tensor.untyped_storage().nbytes()
                    self.now += self.known[key]
                    weakref.finalize(tensor.untyped_storage(), self.gone, key)
            self.most = max(self.most, self.now)
            return made

        def gone(self, key: int) -> None:
            self.now -= self.known.pop(key)

    def attention(query: torch.Tensor, _key: torch.Tensor, value: torch.Tensor, **_: Any) -> torch.Tensor:
        return query.new_empty(*query.shape[:-1], value.shape[-1])  # the kernels of devices keep no weights

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
    kind, config, shape = VAES[name]
    with torch.device("meta"), torch.no_grad():
        vae, latents = getattr(diffusers, kind)(**config).eval(), torch.empty(shape)
        with Held() as held:
            made = vae.decode(latents).sample
    model, (height, width) = ask(f"model={name}").config.model, made.shape[-2:]
    frames = made.shape[2] if made.ndim == 5 else 1
    stage = 4 * model.vae_width * height * width * min(frames, model.vae_frames or frames) / model.vae_patch**2
    assert (held.most - made.nbytes) / stage == pytest.approx(model.vae_tensors, rel=0.1)
