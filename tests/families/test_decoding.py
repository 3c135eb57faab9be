"""VAEs that decode in tiles, tiny ones: three ranks that share them give what one process does, to the bit."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import torch.distributed as dist

# ruff: noqa: E402  (the helpers are found by path)
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "attention_backends" / "helpers")]

from ranks import Ranks

from launcher.decoding import SHARED, TILED, Decoding

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("FAMILY_SAMPLES" not in os.environ, reason="what is tested here changes with diffusers alone"),
]

_BLOCKS = {"block_out_channels": (4, 4, 4, 4), "layers_per_block": 1, "norm_num_groups": 2, "latent_channels": 4}
_IMAGE = {
    **_BLOCKS,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
_WAN = {"base_dim": 4, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
_MEANS = {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
# A class's configuration, and the latents that are decoded; the film has more frames than one tile of it.
TINY: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "AutoencoderKL": (_IMAGE, (1, 4, 13, 17)),
    "AutoencoderKLFlux2": (_IMAGE, (1, 4, 13, 17)),
    "AutoencoderKLHunyuanVideo": ({**_BLOCKS, "temporal_compression_ratio": 4}, (1, 4, 6, 9, 7)),
    "AutoencoderKLLTXVideo": (
        {
            "latent_channels": 4,
            "block_out_channels": (4, 4, 4, 4),
            "decoder_block_out_channels": (4, 4, 4, 4),
            "layers_per_block": (1, 1, 1, 1, 1),
            "decoder_layers_per_block": (1, 1, 1, 1, 1),
        },
        (1, 4, 2, 9, 7),
    ),
    "AutoencoderKLWan": ({**_WAN, **_MEANS}, (1, 4, 3, 13, 9)),
    "AutoencoderKLQwenImage": ({**_WAN, **_MEANS}, (1, 4, 1, 13, 9)),
}


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    pool = Ranks(3)
    yield pool
    pool.stop()


def decoded(group: dist.ProcessGroup, name: str, shared: bool) -> tuple[bool, bool, int]:
    """Whether rank 0 has what one process has, whether tiles change anything, and the decoder's calls on this rank."""
    from launcher.worker.decoding import dealt, decoded_by

    config, shape = TINY[name]
    torch.manual_seed(0)
    vae = getattr(diffusers, name)(**config).eval()
    z = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    tile = 128 if "LTX" in name else 64
    calls = []
    vae.decoder.register_forward_pre_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        whole = vae.decode(z).sample
        with decoded_by(vae, Decoding(tile)):
            calls.clear()
            alone = vae.decode(z).sample
            if shared:
                with dealt(vae, group):
                    together = vae.decode(z).sample
        assert torch.equal(vae.decode(z).sample, whole), "something is left of it"
    same = not shared or (dist.get_rank(group) > 0 and together.shape[1] == 3) or torch.equal(together, alone)
    return same, not torch.equal(whole, alone), len(calls)


@pytest.mark.parametrize("name", TILED)
def test_a_batch_in_slices_is_each_alone_to_the_bit(name):
    from launcher.worker.decoding import decoded_by

    config, shape = TINY[name]
    torch.manual_seed(0)
    vae, seen = getattr(diffusers, name)(**config).eval(), []
    z = torch.randn((3, *shape[1:]), generator=torch.Generator().manual_seed(1))
    vae.decoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    with torch.no_grad():
        alone = torch.cat([vae.decode(one).sample for one in z.split(1)])
        seen.clear()
        with decoded_by(vae, Decoding(slicing=True)):
            assert torch.equal(vae.decode(z).sample, alone)
        assert set(seen) == {1}
        seen.clear()
        assert torch.allclose(vae.decode(z).sample, alone, atol=1e-5)
        assert 3 in seen, "something is left of it"


@pytest.mark.parametrize("name", TILED)
def test_tiles_are_dealt_and_joined_to_the_bit(ranks, name):
    for same, changed, calls in ranks.run(decoded, 3, name=name, shared=name in SHARED):
        assert same
        assert changed
        assert calls > 3
